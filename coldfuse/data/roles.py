"""What a task reads from a table, by role: the columns that the user names, or those with usual names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from coldfuse.data.documents import TEXT_COLUMN
from coldfuse.data.media import MEDIA_ENDINGS
from coldfuse.data.tables import Table, Wanted
from coldfuse.data.words import listing, shown
from coldfuse.errors import UserInputError


@dataclass(frozen=True)
class Role:
    """One thing that a task reads of each example.

    >>> Role("tokens", ("tokens", "words"), what="tokens").is_required
    True
    """

    name: str
    """Key of its values in `Records`, and the word for it in `--column`."""
    usual: tuple[str, ...]
    """Usual names of its column, the likeliest first; in lower case, as a column's case does not matter."""
    is_required: bool = True
    """Whether data without such a column are refused, and rows without a value left out."""
    what: str = ""
    """The word for it in errors; the name by default."""

    @property
    def word(self) -> str:
        """What messages call it."""
        return self.what or self.name


@dataclass(frozen=True)
class RoleChoice:
    """Finds the columns of roles in tables."""

    roles: Sequence[Role]
    """What is read, in this order."""
    named: Mapping[str, str] = field(default_factory=dict)
    """Columns that the user names, by role."""

    def __post_init__(self) -> None:
        """Refuse a column for a role that nobody has."""
        for name in self.named.keys() - {role.name for role in self.roles}:
            raise UserInputError(
                f"--column {shown(name)}=…: this task reads no {shown(name)}; it reads "
                f"{listing(role.name for role in self.roles)}"
            )

    @property
    def takes_documents(self) -> bool:
        """Whether texts alone are read: beside a label they are columns, whatever the file is called."""
        return [role.name for role in self.roles] == [TEXT_COLUMN]

    @property
    def takes_tokens(self) -> bool:
        """Whether tokens are needed."""
        return any(role.name == "tokens" for role in self.roles)

    @property
    def takes_media(self) -> str | None:
        """Role of pictures or sounds, if there is one."""
        return next((role.name for role in self.roles if role.name in MEDIA_ENDINGS), None)

    def find(self, table: Table) -> dict[str, str]:
        """Return the column of each role that the table has; no column has two roles.

        Raises:
            UserInputError: A column is not there, has two roles, or cannot be told.
        """
        found = {name: table.require(column) for name, column in self.named.items()}
        for column in found.values():
            if list(found.values()).count(column) > 1:
                both = listing(name for name in found if found[name] == column)
                raise UserInputError(f"{table.name}: column {column!r} cannot be {both} at once; name two columns")
        by_name = {name.strip().lower(): name for name in reversed(table.names)}
        for role in self.roles:
            taken = set(found.values())
            free = [by_name[name] for name in role.usual if name in by_name and by_name[name] not in taken]
            if role.name not in found and free:
                found[role.name] = table.require(free[0])
            elif role.name not in found and role.is_required:
                raise self._cannot_tell(table, role)
        return {role.name: found[role.name] for role in self.roles if role.name in found}

    def is_likely(self, names: Sequence[str]) -> int:
        """Count the names that say that these are the columns of a task: the more, the likelier."""
        usual = {name for role in self.roles for name in role.usual}
        given = set(self.named.values())
        return sum(name in given or name.lower() in usual for name in names)

    def wanted(self, columns: Mapping[str, str]) -> Wanted:
        """Return what is read of a table for these columns."""
        return Wanted(columns=tuple(columns.values()), label=columns.get("label"))

    def _cannot_tell(self, table: Table, role: Role) -> UserInputError:
        form = f" ({', '.join(table.form)})" if table.form else ""
        return UserInputError(
            f"{table.name}{form}: cannot tell which column holds the {role.word}; name it with --column "
            f"{role.name}=NAME; {table.columns_said}"
        )
