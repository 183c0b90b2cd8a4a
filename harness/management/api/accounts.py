"""Accounts that may call: each with a role, a domain, and credentials that are made at start."""

from __future__ import annotations

import hmac
import secrets
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, TypeAlias

AccountRole: TypeAlias = Literal["Admin", "ResourceAdmin", "DomainAdmin", "User"]
ROOT_DOMAIN = "ROOT"
# What ``login`` calls the roles.
TYPES: dict[AccountRole, str] = {"Admin": "1", "ResourceAdmin": "4", "DomainAdmin": "2", "User": "0"}
_NAMESPACE = uuid.UUID("7c0ffee0-5a1e-4a11-9d0c-5e55ab1e0024")


@lru_cache(maxsize=1 << 16)
def uid(kind: str, key: str) -> str:
    """Return the UUID that clients know an object by: the same for the same object, at every start."""
    try:
        return str(uuid.UUID(key))
    except ValueError:
        return str(uuid.uuid5(_NAMESPACE, f"{kind}/{key}"))


@dataclass(frozen=True)
class Account:
    """An account with its one user.

    Attributes:
        name: of the account and of the user.
        role: what it may do.
        domain: path of its domain, such as ``ROOT/customers``.
        password: for ``login``.
        api_key: public half of the key pair.
        secret: secret half.
        enabled: whether it may call at all.
    """

    name: str
    role: AccountRole
    domain: str = ROOT_DOMAIN
    password: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)
    api_key: str = field(default_factory=lambda: secrets.token_urlsafe(48), repr=False)
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(48), repr=False)
    enabled: bool = True

    @property
    def id(self) -> str:
        """UUID of the account."""
        return uid("account", self.name)

    @property
    def user_id(self) -> str:
        """UUID of its user."""
        return uid("user", self.name)

    @property
    def domain_id(self) -> str:
        """UUID of its domain."""
        return uid("domain", self.domain)

    def rules(self, domain: str) -> bool:
        """Say whether a domain is the account's own or below it."""
        return domain == self.domain or domain.startswith(f"{self.domain}/")


SYSTEM = Account("system", "Admin", enabled=False)


class Accounts:
    """All accounts of a server."""

    def __init__(self, accounts: Iterable[Account]) -> None:
        """Take the accounts; their names are unique."""
        self._by_name = {account.name: account for account in accounts}

    def __iter__(self) -> Iterator[Account]:
        return iter(self._by_name.values())

    def named(self, name: str) -> Account:
        """Return the account of that name; the system's own for a name that nobody has."""
        return self._by_name.get(name, SYSTEM)

    def with_key(self, api_key: str) -> Account | None:
        """Return the enabled account of an API key."""
        for account in self._by_name.values():
            if hmac.compare_digest(account.api_key.encode(), api_key.encode()) and account.enabled:
                return account
        return None

    def signed_in(self, name: str, password: str, domain: str) -> Account | None:
        """Return the enabled account of a name, a password and a domain; an empty domain is the root's or its own.

        The clients' habit of sending ``/`` for the root reaches every account that has no namesake.
        """
        account = self._by_name.get(name)
        known = account or SYSTEM
        right = hmac.compare_digest(known.password.encode(), password.encode())
        if account is None or not right or not account.enabled:
            return None
        path = domain.strip("/")
        return account if not path or path in {account.domain, account.domain.removeprefix("ROOT/")} else None


def usual() -> Accounts:
    """Return one account of each role that a person meets, with new credentials."""
    return Accounts(
        (
            Account("admin", "Admin"),
            Account("operator", "DomainAdmin", "ROOT/customers"),
            Account("user", "User", "ROOT/customers"),
        )
    )
