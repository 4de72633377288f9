"""Settings of the month's close: the rules for dividing money, and limits on memory and time."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from ingest.contract.month import parse_month
from ingest.contract.times import GRACE_MAX_S
from ingest.runtime.base_settings import Settings
from warehouse.payout import money
from warehouse.payout.bank import check_bic, check_creditor_id, check_iban, sepa_name

Scheme = Literal["pain.001.001.03", "pain.001.001.09", "pain.001.001.11"]
DebitScheme = Literal["pain.008.001.02", "pain.008.001.08", "pain.008.001.09", "pain.008.001.10"]
NoClickRule = Literal["charity", "carry", "keep"]


class CloseSettings(Settings):
    """Read from the environment, frozen. The rules (see ``rules``) are hashed into every seal."""

    model_config = SettingsConfigDict(env_prefix="FLATTR_")

    grace_s: int = Field(
        default=3600,
        ge=0,
        le=GRACE_MAX_S,
        description="How long after its end a month stays open, in seconds. A record stamped at or past it is late.",
    )
    log_epoch: int = Field(
        default=0, ge=0, lt=256, description="The log epoch of the topic's offsets; the same as for streams."
    )
    close_settle_s: int = Field(
        default=120,
        ge=0,
        le=7 * 86_400,
        description="How long after the grace a record stamped before it may still reach the broker, in seconds: the "
        "topic's message.timestamp.before.max.ms (60 s) plus the difference allowed between machines' clocks (60 s). "
        "The close waits this long, then asks where the log ends.",
    )
    close_drain_timeout_s: float = Field(
        default=60,
        ge=0,
        description="How long the close waits for the stream to count to where the log ended, in seconds, before it "
        "refuses.",
    )
    close_stamps_bounded: bool = Field(
        default=True,
        description="Whether the close refuses unless the topic rejects old stamps. Set it to false if the clock is "
        "shifted or the broker, like the embedded one, cannot limit stamps: then a delayed record could enter a closed "
        "month.",
    )
    close_first_month: str = Field(
        default="",
        description="The first month to close, as YYYY-MM; earlier months (a trial, a wrong clock) stay open for ever. "
        "Unset: the first with pledges or counted flattrs. Has no effect once a month is closed.",
    )
    close_currency: str = Field(default="EUR", description="The ISO 4217 code of the currency of pledges and payouts.")
    close_fee_bps: int = Field(
        default=1000, ge=0, lt=10_000, description="The fee in basis points of the pledge: 1000 is 10 %."
    )
    close_minimum_minor: int = Field(
        default=1000,
        ge=0,
        description="The minimum payout in minor units (1000 is EUR 10), because transfers cost money. Smaller amounts "
        "are carried.",
    )
    close_noclick: NoClickRule = Field(
        default="charity",
        description="What happens to the pool of a member without flattrs: it goes to the charity, is carried to the "
        "member's next month with flattrs, or is kept by the platform.",
    )
    close_noclick_expiry_months: int = Field(
        default=3,
        ge=1,
        description="After how many months a carried pool goes to the charity. Only for the rule carry.",
    )
    close_claim_required: bool = Field(
        default=True,
        description="Whether creators are paid only once they have signed up; until then their money is held. "
        "False pays everybody, which suits a trial without a register of creators.",
    )
    close_outlier_factor: int = Field(
        default=5, ge=1, description="A name is an outlier when it has this many times its flattrs of last month."
    )
    close_outlier_flattrs_min: int = Field(
        default=100, ge=1, description="A name with fewer flattrs than this is no outlier: small numbers fluctuate."
    )
    close_outlier_earned_min_minor: int = Field(
        default=10_000,
        ge=1,
        description="A creator who earns less than this is no outlier by money, in minor units (10000 is EUR 100).",
    )
    close_debtor_name: str = Field(default="", max_length=70, description="Whose account pays, as the bank knows it.")
    close_debtor_iban: str = Field(default="", description="The account that pays, as IBAN without blanks.")
    close_debtor_bic: str = Field(default="", description="The bank of the account that pays.")
    close_bank_scheme: Scheme = Field(
        default="pain.001.001.09",
        description="The version of the bank's file. Banks have been retiring .03 since November 2025; some take .11.",
    )
    close_cooling_off_days: int = Field(
        default=3,
        ge=0,
        description="How long after a creator's account was changed a payment to it has to be named by both approvers "
        "(`--changed`): time for the creator to notice a change that was not theirs. In days.",
    )
    close_creditor_id: str = Field(
        default="", description="By whose name SEPA knows who collects from members: the creditor identifier (AT-02)."
    )
    close_creditor_name: str = Field(
        default="", max_length=70, description="Whose account gets what is collected. Unset: the one that pays."
    )
    close_creditor_iban: str = Field(
        default="",
        description="The account that gets what is collected, as IBAN without blanks. Unset: the one that pays.",
    )
    close_creditor_bic: str = Field(default="", description="The bank of the account that gets what is collected.")
    close_debit_scheme: DebitScheme = Field(
        default="pain.008.001.08", description="The version of the file of direct debits. Some banks still want .02."
    )
    close_debit_notice_days: int = Field(
        default=14,
        ge=1,
        description="How long before a direct debit a member is told of it, in days: 14 by SEPA's rules, fewer where "
        "the members have agreed to that.",
    )
    close_debit_minimum_minor: int = Field(
        default=200, ge=1, description="The smallest pledge that is collected, in minor units: 200 is EUR 2."
    )
    close_memory_max_bytes: int = Field(
        default=4_000_000_000,
        ge=200_000_000,
        description="How much of the warehouse's memory one query of the close may use, in bytes; it spills to disk at "
        "a third of that. Two run at a time. As many divide the pools as the warehouse has cores, but no more than one "
        "for each 500 MB of this; they usually need less than that each.",
    )
    close_shards: int = Field(
        default=1,
        ge=1,
        le=1024,
        description="In how many ranges of members, one after the other, each of the queries at a time divides the "
        "pools. More of them remember fewer pledges at a time.",
    )
    close_timeout_s: float = Field(
        default=3600, gt=0, description="Timeout of one query of the close, in seconds. Far above the worst month."
    )

    @field_validator("close_currency")
    @classmethod
    def _known(cls, code: str) -> str:
        money.minor_micro(code)
        return code

    @field_validator("close_first_month")
    @classmethod
    def _month(cls, text: str) -> str:
        if text:
            parse_month(text)
        return text

    @field_validator("close_debtor_iban", "close_creditor_iban")
    @classmethod
    def _account(cls, iban: str) -> str:
        return check_iban(iban) if iban else iban

    @field_validator("close_debtor_name", "close_creditor_name")
    @classmethod
    def _written(cls, name: str) -> str:
        """As the bank's file has it: no other characters reach a bank."""
        return sepa_name(name) if name else name

    @field_validator("close_debtor_bic", "close_creditor_bic")
    @classmethod
    def _bank(cls, bic: str) -> str:
        return check_bic(bic) if bic else bic

    @field_validator("close_creditor_id")
    @classmethod
    def _creditor(cls, text: str) -> str:
        return check_creditor_id(text) if text else text

    @property
    def minor_micro(self) -> int:
        """One minor unit of the currency in micro-units."""
        return money.minor_micro(self.close_currency)

    @property
    def rules(self) -> dict[str, str | int | bool]:
        """The settings that decide who gets what; every seal covers them."""
        return {
            "grace_s": self.grace_s,
            "currency": self.close_currency,
            "fee_bps": self.close_fee_bps,
            "minimum_micro": self.close_minimum_minor * self.minor_micro,
            "minor_micro": self.minor_micro,
            "noclick": self.close_noclick,
            "noclick_expiry_months": self.close_noclick_expiry_months,
            "claim_required": self.close_claim_required,
        }

    @property
    def rules_sha256(self) -> str:
        """Hash of the rules in canonical JSON."""
        return hashlib.sha256(json.dumps(self.rules, sort_keys=True).encode()).hexdigest()

    @property
    def clickhouse(self) -> dict[str, int]:
        """ClickHouse settings of the close's statements: bounded memory, spilling to disk."""
        spill = self.close_memory_max_bytes // 3
        return {
            "max_memory_usage": self.close_memory_max_bytes,
            "max_bytes_before_external_group_by": spill,
            "max_bytes_before_external_sort": spill,
            "max_insert_threads": 2,
            # Rows of pools are wide: the default would remember a gigabyte of them. Smaller blocks also keep both
            # threads reading, where the default gives one thread 160,000 rows at a time.
            "min_insert_block_size_rows": 75_000,
            "min_insert_block_size_bytes": 1 << 26,
            "merge_tree_min_rows_for_concurrent_read": 16_384,
            "merge_tree_min_bytes_for_concurrent_read": 1 << 20,
            "do_not_merge_across_partitions_select_final": 1,
            # In `sum(flattrs) AS flattrs`, let flattrs mean the column, as standard SQL does.
            "prefer_column_name_to_alias": 1,
        }

    @property
    def clickhouse_in_order(self) -> dict[str, int]:
        """The same for a statement whose rows keep the order of their table, which only a single thread preserves."""
        return {
            **self.clickhouse,
            "max_threads": 1,
            "max_insert_threads": 1,
            "optimize_aggregation_in_order": 1,
            # The left side of a join streams, and the right one is remembered.
            "query_plan_join_swap_table": 0,
        }
