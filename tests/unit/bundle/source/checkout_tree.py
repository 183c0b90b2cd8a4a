"""Make a source tree that is laid out like a genuine CloudStack checkout, with content of our own.

The names are those that consumers depend on by path; where upstream has more files than that, fillers bring a
folder to the number of files that was counted in release 4.22: 33 folders, 177 files that upstream's build
makes 0755 and 12 that it makes 0644.
"""

from __future__ import annotations

from pathlib import Path

SETUP = [
    "init.sh",
    "cloud-early-config",
    "bootstrap.sh",
    "postinit.sh",
    "common.sh",
    "router.sh",
    "vpcrouter.sh",
    "dhcpsrvr.sh",
    "secstorage.sh",
    "consoleproxy.sh",
    "ilbvm.sh",
    "elbvm.sh",
    "default.sh",
    "patch.sh",
    "cksnode.sh",
    "sharedfsvm.sh",
]
TEMPLATES = [
    "keepalived.conf.templ",
    "conntrackd.conf.templ",
    "heartbeat.sh.templ",
    "check_heartbeat.sh.templ",
    "checkrouter.sh.templ",
    "arping_gateways.sh.templ",
    "check_bumpup.sh",
]
BIN = [
    "update_config.py",
    "configure.py",
    "merge.py",
    "cs_cmdline.py",
    "vr_cfg.sh",
    "get_template_version.sh",
    "patched.sh",
    "diagnostics.py",
]
UNITS = [
    "cloud-preinit",
    "cloud-early-config",
    "cloud-postinit",
    "cloud",
    "cloud-password-server@",
    "baremetal-vr",
]
IPTABLES = [
    "iptables-consoleproxy",
    "iptables-dhcpsrvr",
    "iptables-elbvm",
    "iptables-ilbvm",
    "iptables-router",
    "iptables-secstorage",
    "iptables-vpcrouter",
    "rt_tables_init",
    "rules",
]
SINGLE = [
    "etc/haproxy/haproxy.cfg",
    "etc/ssh/sshd_config",
    "etc/sysctl.conf",
    "etc/rsyslog.conf",
    "etc/ipsec.conf",
    "etc/ipsec.secrets",
    "etc/ipsec.d/l2tp.conf",
    "etc/xl2tpd/xl2tpd.conf",
    "etc/ppp/options.xl2tpd",
    "etc/apache2/vhost.template",
    "etc/apache2/httpd.conf",
    "etc/apache2/conf-enabled/security.conf",
    "etc/dnsmasq.conf.tmpl",
    "etc/vpcdnsmasq.conf",
    "etc/radvd.conf.tmpl",
    "etc/cloud-nic.rules",
    "etc/cron.daily/cloud-cleanup",
    "etc/cron.hourly/cloud-rotate",
    "etc/modprobe.d/aesni_intel",
    "etc/profile.d/cloud.sh",
    "etc/vmware-tools/tools.conf",
    "etc/logrotate.conf",
    "var/www/html/latest/.htaccess",
    "var/www/html/userdata/.htaccess",
    "root/clearUsageRules.sh",
    "root/func.sh",
    "root/monitorServices.py",
    "root/reconfigLB.sh",
]
LOGROTATE = [
    "apache2",
    "apt",
    "cloud",
    "conntrackd",
    "dnsmasq",
    "dpkg",
    "haproxy",
    "logsave",
    "ppp",
    "rsyslog",
    "samba",
]
KEYSTORE = ("keystore-setup", "keystore-cert-import")
NOT_SHIPPED = (
    "opt/cloud/.classpath",
    "opt/cloud/.project",
    "opt/wscript_build",
    "etc/.gitignore",
    "opt/cloud/bin/cs/__pycache__/CsFile.cpython-311.pyc",
    "etc/haproxy/haproxy.cfg~",
)

FILES_0755, FILES_0644, FOLDERS = 177, 12, 33
_OPT_CLOUD, _HEALTH_CHECKS, _ETC_SYSTEMD, _MORE_FOLDERS = 114, 12, 12, 3


def _filler(number: int) -> str:
    return f"etc/filler{number}.d/main.conf" if number < _MORE_FOLDERS else f"etc/filler{number}.conf"


def script_paths() -> set[str]:
    """Return the paths of all files that cloud-scripts.tgz of 4.22 ships."""
    paths = {f"opt/cloud/bin/setup/{name}" for name in SETUP}
    paths |= {f"opt/cloud/templates/{name}" for name in TEMPLATES}
    paths |= {f"opt/cloud/bin/{name}" for name in (*BIN, *KEYSTORE)}
    paths |= {f"opt/cloud/bin/cs/Cs{number}.py" for number in range(_OPT_CLOUD - len(paths))}
    paths |= {f"root/health_checks/check_{number}.py" for number in range(_HEALTH_CHECKS)}
    units = {f"etc/systemd/system/{name}.service" for name in UNITS} | {"etc/systemd/journald.conf"}
    paths |= units | {
        f"etc/systemd/system/other-{number}.service" for number in range(_ETC_SYSTEMD - len(units))
    }
    paths |= {f"etc/iptables/{name}" for name in IPTABLES}
    paths |= {f"etc/logrotate.d/{name}" for name in LOGROTATE} | set(SINGLE)
    return paths | {_filler(number) for number in range(FILES_0755 + FILES_0644 - len(paths))}


def folder_paths() -> set[str]:
    """Return the paths of all folders that hold them."""
    return {str(parent) for path in script_paths() for parent in Path(path).parents} - {"."}


def _content(path: str) -> bytes:
    first = (
        "#!/usr/bin/python3\n" if path.endswith(".py") else "#!/bin/bash\n" if path.endswith(".sh") else ""
    )
    return f"{first}# {path}\n".encode()


AGENT = {
    "systemvm/agent/scripts": "_run.sh run.sh run-proxy.sh config_auth.sh config_ssl.sh ipfirewall.sh "
    "ssvm-check.sh utils.sh",
    "systemvm/agent/conf": "log4j-cloud.xml consoleproxy.properties agent.properties environment.properties",
    "systemvm/agent/images": "a.jpg b.gif c.png d.cur readme.txt",
    "systemvm/agent/js": "ajaxviewer.js notes.md",
    "systemvm/agent/ui": "viewer.ftl viewer.html",
    "systemvm/agent/css": "ajaxviewer.css logger.css x.scss",
    "systemvm/agent/certs": "localhost.crt localhost.key realhostip.crt realhostip.key "
    "realhostip.keystore realhostip.csr",
    "systemvm/agent/noVNC": "vnc.html app/ui.js core/rfb.js",
    "systemvm/agent/packages": "packages.ini python-is-python3_3.9.2-1_all.deb python3-netaddr_0.7.19-5_all.deb",
    "scripts/util": "keystore-setup keystore-cert-import other.sh",
    "scripts/storage/secondary": "createtmplt.sh createvolume.sh listvmtmplt.sh swift cloud-install-sys-tmplt.py",
}
NOT_IN_AGENT = (
    "environment.properties",
    "readme.txt",
    "notes.md",
    "viewer.html",
    "x.scss",
    "realhostip.csr",
    "other.sh",
)


def make_checkout(root: Path, version: str = "4.22.0.0-SNAPSHOT") -> Path:
    """Write the tree below ``root`` and return it."""
    files = {f"systemvm/debian/{path}": _content(path) for path in script_paths()}
    for name in KEYSTORE:
        del files[f"systemvm/debian/opt/cloud/bin/{name}"]
    files |= {f"systemvm/debian/{path}": b"never shipped\n" for path in NOT_SHIPPED}
    files |= {f"{folder}/{name}": _content(name) for folder, names in AGENT.items() for name in names.split()}
    files["pom.xml"] = (
        "<project>\n  <parent><groupId>org.apache</groupId><artifactId>apache</artifactId>"
        "<version>31</version></parent>\n"
        f"  <artifactId>cloudstack</artifactId>\n  <version>{version}</version>\n</project>\n"
    ).encode()
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root
