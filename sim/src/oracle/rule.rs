//! The promises by name.

use std::fmt;

/// A promise that the oracle checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// What was acknowledged as durable is there after a crash.
    Durable,
    /// What a crash leaves is one state that existed, whole.
    Prefix,
    /// What a crash leaves was called for before the crash.
    NoFuture,
    /// Recovering twice, or after a cut in recovery, gives the same as recovering once.
    Idempotent,
    /// A named checkpoint that was acknowledged and not dropped reads as it was.
    Named,
    /// Recovery succeeds.
    OpenOk,
    /// Work after a recovery obeys all rules again.
    Stay,
    /// What was read after a recovery survives the next crash, whether it was acknowledged before or not.
    ObservedStays,
    /// Every byte of a file is accounted for, and sizes stay bounded.
    Space,
    /// The verifier finds nothing where nothing is wrong.
    Verify,
    /// No panic; errors have the kind that was promised.
    Typed,
    /// Live reads, of transactions and views, give what the model says.
    Read,
    /// Conflicts: all that must be, and no others.
    Si,
    /// Damaged bytes give an error, never other rows.
    Quiet,
    /// Equal runs have equal traces.
    Det,
    /// A full copy opens as the state that its backup pinned.
    FullModel,
    /// An incomplete or damaged copy is refused.
    Refuse,
    /// Nothing that an open backup pins changes.
    Pins,
    /// After its end a backup holds nothing.
    Close,
    /// A crash with a backup open falls back, or not, as the contract says.
    K2,
    /// After such a crash the backup is over.
    K3,
    /// Calls succeed and fail as the contract says.
    Contract,
    /// After a failed sync nothing is acknowledged that depends on it.
    Honest,
    /// Once faults stop, work goes on.
    Live,
    /// No number of a checkpoint is given twice, nor does one origin name two states.
    SeqOnce,
    /// A base with its increments shows what a full copy at the same pin shows.
    ChainFull,
    /// A base with its increments agrees with such a full copy in every live byte.
    Bytes,
    /// No block is younger than the one that refers to it, and each says of itself what its address says.
    Mono,
    /// Births agree with what the disk saw being written.
    Stamp,
    /// The walk that stops at old blocks finds what the walk over all blocks finds.
    Walk,
    /// Every live byte that differs from the base is in a range.
    Superset,
    /// Ranges hold nothing else, up to the allowance that is declared.
    Tight,
    /// The list of files is that of the pinned state.
    Members,
    /// A backup of a restored backup is that backup.
    Compose,
    /// The restore of one table is that table, and nothing more.
    Point,
    /// The order in which files are copied does not matter.
    AnyOrder,
    /// Taking a backup changes nothing at the source but what is declared.
    ReadOnly,
    /// Each origin that is listed works; what was acknowledged survives; what was released is refused.
    IdLife,
}

impl Rule {
    /// The name used in reports and by planted bugs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Durable => "durable",
            Self::Prefix => "prefix",
            Self::NoFuture => "no-future",
            Self::Idempotent => "idempotent",
            Self::Named => "named",
            Self::OpenOk => "open-ok",
            Self::Stay => "stay",
            Self::ObservedStays => "observed-stays",
            Self::Space => "space",
            Self::Verify => "verify",
            Self::Typed => "typed",
            Self::Read => "read",
            Self::Si => "si",
            Self::Quiet => "quiet",
            Self::Det => "det",
            Self::FullModel => "full=model",
            Self::Refuse => "refuse",
            Self::Pins => "pins",
            Self::Close => "close",
            Self::K2 => "K2",
            Self::K3 => "K3",
            Self::Contract => "contract",
            Self::Honest => "honest",
            Self::Live => "live",
            Self::SeqOnce => "seq-once",
            Self::ChainFull => "chain=full",
            Self::Bytes => "bytes",
            Self::Mono => "mono",
            Self::Stamp => "stamp",
            Self::Walk => "walk",
            Self::Superset => "superset",
            Self::Tight => "tight",
            Self::Members => "members",
            Self::Compose => "compose",
            Self::Point => "point",
            Self::AnyOrder => "any-order",
            Self::ReadOnly => "read-only",
            Self::IdLife => "id-life",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
