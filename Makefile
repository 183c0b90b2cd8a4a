# Everything a person types. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MACHINE := $(VENV)/.machine
# What the harness and its tests use of Debian.
PACKAGES := qemu-system-x86 qemu-utils seabios libvirt-daemon libvirt-daemon-system libvirt-clients libvirt-dev \
  pkg-config gcc libc6-dev mmdebstrap e2fsprogs tini busybox-static kmod cpio zstd openssl unzip zip rpm \
  openssh-client iproute2 iptables haproxy dnsmasq-base apache2-bin keepalived conntrackd strongswan-starter \
  strongswan-charon libcharon-extra-plugins xl2tpd frr radvd curl procps util-linux \
  gnupg xz-utils bzip2 nfs-ganesha nfs-ganesha-mem debvm chromium python3-venv python3-dev shellcheck shfmt

.DEFAULT_GOAL := help
.PHONY: help install machine demo test lint types unit guest e2e bench doctor clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

machine: $(MACHINE) ## install the Debian packages that are missing
$(MACHINE): Makefile
	@missing=$$(for p in $(PACKAGES); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" != 0 ]; then echo "make: missing Debian packages: install them as root: apt-get install" $$missing >&2; exit 3; fi; \
	  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing; \
	fi
	@mkdir -p $(VENV) && touch $@

install: $(STAMP) ## make .venv with the pinned dependencies
$(STAMP): constraints.txt pyproject.toml | $(MACHINE)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(PYTHON) is too old: Python 3.11 or newer is needed (make PYTHON=...)" >&2; exit 3; }
	$(PYTHON) -m venv $(VENV)
	awk '/^[a-z]/ { build = /^(setuptools|wheel)==/ } build' constraints.txt | $(BIN)/pip install -q --no-deps --require-hashes -r /dev/stdin
	$(BIN)/pip install -q --no-deps --require-hashes --no-build-isolation -r constraints.txt
	$(BIN)/pip install -q --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP) ## the main job: build, boot, patch, break, roll back, judge
	@$(BIN)/sysvm doctor --fix --quiet
	@$(BIN)/sysvm run

test: $(STAMP) ## every check: lint, types, unit, guest and end-to-end tests
	@$(BIN)/sysvm doctor --fix --quiet
	@$(BIN)/nox

lint types unit guest e2e bench: $(STAMP) ## one nox session: lint, types, unit, guest, e2e or bench
	@$(BIN)/nox -s $@

doctor: ## explain what this machine lacks; installs nothing
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' && echo "ok   $(PYTHON)" || echo "FAIL $(PYTHON): Python 3.11 or newer is needed (make doctor PYTHON=...)"
	@missing=$$(for p in $(PACKAGES); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then echo "FAIL Debian packages are missing: 'make machine' installs them as root:" $$missing; else echo "ok   Debian packages"; fi
	@if [ -x $(BIN)/sysvm ]; then $(BIN)/sysvm doctor; else echo "note no virtual environment: 'make install' makes $(VENV) with the packages of constraints.txt ($$(grep -c == constraints.txt))"; fi

clean: ## remove the virtual environment, results and caches of this checkout
	rm -rf $(VENV) .nox .mypy_cache .ruff_cache .pytest_cache results dist
