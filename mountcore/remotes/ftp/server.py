"""What is known about a server: what FEAT says, and what has been learned by trying. Pure.

One `Server` is shared by all connections to it. Fields only go from unknown (None) to known, or from
"may work" to "does not", so no lock is needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .bulk import FactLines
from .options import FtpOptions


@dataclass(slots=True)
class Server:
    """Knowledge about one server, for one user."""

    options: FtpOptions
    contacted: bool = False
    features: dict[str, str] = field(default_factory=dict)
    """FEAT's lines: keyword → rest. Empty where the server has no FEAT."""
    home: str = "/"
    """Where the login ends up."""
    encrypts: bool = False
    """TLS has been spoken with it."""
    warned_clear: bool = False
    pipelines: bool | None = None
    """Commands may be sent before the reply to the last one is there: tried at the first contact."""
    begins: bool | None = None
    """Listings may be asked for before there is a data connection for them. Tried once."""
    epsv: bool = True
    epsv_proved: bool = False
    eprt: bool = True
    rest: bool = True
    mfmt: bool = True
    mdtm: bool = True
    times_proved: bool = False
    """A time that was set was there when asked for afterwards."""
    mdtm_write: bool | None = None
    """MDTM with a time sets it: vsftpd does; elsewhere it is tried once."""
    size: bool = True
    mkdir_lies: bool | None = None
    """MKD of a directory that exists is answered with yes."""
    list_works: bool = True
    list_all: bool | None = None
    """``LIST -a`` is understood: it showed ``.``."""
    list_offset_ns: int | None = None
    """What to take from a LIST time to get UTC."""
    list_offset_tried: bool = False
    dot_names: bool = True
    """Names with a leading dot can be written."""
    raw_names: bool | None = None
    """Bytes of a name that are not UTF-8 stay what they are: there are servers that replace them. Looked at once."""
    rename_replaces: bool = True
    fact_lines: FactLines = field(init=False, repr=False, compare=False)
    appends: bool | None = None
    """APPE adds to a file: there are servers that replace it. Looked at once."""

    def __post_init__(self) -> None:
        self.fact_lines = FactLines(self.options.names)
        self.epsv = self.options.epsv
        if self.options.writing_mdtm:
            self.mdtm_write = True

    def learn_features(self, lines: tuple[str, ...]) -> None:
        """Take over a FEAT reply (RFC 2389 §3.2)."""
        self.features = {}
        for line in lines[1:-1]:
            keyword, _, rest = line.strip().partition(" ")
            if keyword:
                self.features[keyword.upper()] = rest
        if self.features:
            self.mfmt = "MFMT" in self.features  # SIZE and MDTM are older than FEAT: not all list them

    def has(self, feature: str) -> bool:
        """Whether FEAT lists it."""
        return feature in self.features

    @property
    def mlst(self) -> bool:
        """Whether MLST and MLSD are there and wanted."""
        return self.options.mlsd and ("MLST" in self.features or "MLSD" in self.features)

    @property
    def sets_times(self) -> bool:
        """Whether files can get a modification time, as far as is known."""
        return (self.mfmt or bool(self.mdtm_write)) and (self.mdtm or self.mlst)
