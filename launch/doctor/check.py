"""A check as a row of a table, and the session that all checks share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from launch.doctor.findings import Finding
from launch.doctor.google import Google
from launch.doctor.options import DoctorSettings

ACCOUNT = "account"


@dataclass
class Session:
    """The settings, and Google's services after the check of the account has passed."""

    settings: DoctorSettings
    account: Google | None = None

    @property
    def splits(self) -> dict[str, list[str]]:
        """Option of the trainer -> the splits that it names."""
        settings = self.settings
        return {"train_split": settings.train_split.split(","), "val_split": [*filter(None, [settings.val_split])]}

    @property
    def google(self) -> Google:
        """Google's services, for checks that need ACCOUNT."""
        assert self.account is not None
        return self.account

    def option(self, name: str) -> str:
        """The value of an option that the check needs."""
        value = getattr(self.settings, name)
        assert isinstance(value, str)
        return value


@dataclass(frozen=True)
class Check:
    """A row of the table.

    Attributes:
      name: what is checked: the name of findings that do not have their own.
      find: yields findings; a LaunchError or BuildError that it raises is reported as a failure.
      needs: names of options, without --, that must be set, and ACCOUNT; otherwise the check is reported as skipped.
      job: the job of `options.JOBS` that the check is about; None for every job.
      when: whether the check applies to the settings; otherwise it is not reported.
      seconds: timeout of the whole check.
    """

    name: str
    find: Callable[[Session], Iterator[Finding]]
    needs: tuple[str, ...] = ()
    job: str | None = None
    when: Callable[[DoctorSettings], bool] = lambda _: True
    seconds: float = 20.0

    def applies(self, settings: DoctorSettings) -> bool:
        """Whether the check is about the jobs and the options that were given."""
        return (self.job is None or self.job in settings.jobs) and self.when(settings)

    def reason_to_skip(self, session: Session) -> str | None:
        """Which of `needs` is missing; None if none is."""
        options = [name for name in self.needs if name != ACCOUNT and not getattr(session.settings, name)]
        if options:
            return f"set {' and '.join(f'--{name}' for name in options)}"
        if ACCOUNT in self.needs and session.account is None:
            return "needs a Google account; see the account check"
        return None
