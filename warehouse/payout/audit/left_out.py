"""The quarantine of a closed month, derived again from its log for the auditor, without the close's SQL.

It reads the flags that were in force at the close and checks for every flattr whether one covers it. The result must
equal the stored set, and the digests must be the sealed ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from warehouse.payout.digest import Digest, text_line
from warehouse.storage.client import Warehouse

Key = tuple[str, str, str]


class LeftOut:
    """The flattrs, as (member, creator, thing in upper-case hexadecimal), that the close had to leave out.

    Call ``covers`` for every flattr; ``digest`` and ``found`` collect those that are covered.
    """

    def __init__(self, warehouse: Warehouse, month: int, snapshot: Mapping[str, int]) -> None:
        self.digest = Digest()
        self.log_digest = Digest()
        self.found: set[Key] = set()
        self._warehouse = warehouse
        self._month = month
        self._flags: dict[str, set[tuple[str, ...]]] = defaultdict(set)
        self._read_log(snapshot.get("quarantine_step", 0))
        self._of_sites = self._read_sites()

    def covers(self, member: str, creator: str, thing: str) -> bool:
        """Whether a flag covers this flattr."""
        if not self._flags:
            return False
        flags = self._flags
        covered = (
            (member,) in flags["member"]
            or (member, creator) in flags["member_creator"]
            or (creator,) in flags["creator"]
            or (member, thing.lower()) in flags["flattr"]
            or (member, creator, thing) in self._of_sites
        )
        if covered and (member, creator, thing) not in self.found:
            self.found.add((member, creator, thing))
            self.digest.add(text_line((member, creator, thing)))
        return covered

    def stored(self) -> set[Key]:
        """The flattrs in the stored set."""
        rows = self._warehouse.rows(
            "SELECT member_id, creator_id, hex(thing_id), held FROM quarantine_set WHERE month = %(month)s "
            "AND version IN (SELECT version FROM quarantine_versions) ORDER BY version",
            {"month": self._month},
        )
        newest = {(member, creator, thing): held for member, creator, thing, held in rows}
        return {key for key, held in newest.items() if held}

    def _read_log(self, until: int) -> None:
        rows = self._warehouse.rows(
            "SELECT step, action, kind, member_id, creator_id, thing_id, site_id, rule, reason, evidence, who, "
            "toUnixTimestamp64Milli(at) FROM quarantine_log WHERE month = %(month)s AND step <= %(until)s "
            "ORDER BY step",
            {"month": self._month, "until": until},
        )
        for row in rows:
            self.log_digest.add(text_line(row))
            _, action, kind, *names = row[:7]
            flag = tuple(name for name in names if name)
            if action == "flag":
                self._flags[kind].add(flag)
            else:
                self._flags[kind].discard(flag)

    def _read_sites(self) -> set[Key]:
        found: set[Key] = set()
        for (site,) in self._flags.get("site", ()):
            found.update(
                self._warehouse.rows(
                    "SELECT DISTINCT member_id, creator_id, hex(thing_id) FROM flattrs "
                    "WHERE month = %(month)s AND site_id = %(site)s",
                    {"month": self._month, "site": site},
                )
            )
        return found
