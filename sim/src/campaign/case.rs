//! A run in words.
//!
//! ```text
//! case 1
//! why      a reader met a page that was split under it
//! rule     read
//! config   unit=512 leaf=512 cache=16384 contract=Pinned profile=strict keys=24 sizes=5 length=31 kinds=4095
//! seed     77
//! op       create t0
//! op       put t0 k1 = #1 x60
//! ```

use std::fmt;

use crate::driver::{self, Failure, Hush, Noted, World};
use crate::oracle::{Effort, Judge, damage};
use crate::tape::{Subject, Tape};
use crate::workload::{Config, Dice, Op, Plan, parse};

/// A run written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Why it is kept.
    pub why: String,
    /// The rule it broke.
    pub rule: String,
    /// The settings.
    pub config: Config,
    /// The seed of crash choices and of damage.
    pub seed: u64,
    /// The operations.
    pub ops: Vec<Op>,
}

/// Choices of one subject.
struct On<'t>(&'t mut Tape, Subject);

impl Dice for On<'_> {
    fn choose(&mut self, bound: u32) -> u32 {
        self.0.choose(self.1, bound.into()) as u32
    }
}

/// Damages tried per run.
const DAMAGES: u32 = 4;

/// Draws a run from a tape, runs it and judges it. Gives the run in words, the hash of its trace, and what failed.
pub fn run_tape(tape: &mut Tape, judge: &mut Judge) -> (Case, Result<u64, Failure>) {
    run_tape_on(None, tape, judge)
}

/// As [`run_tape`], on a disk of the kind that is named.
pub fn run_tape_on(profile: Option<&str>, tape: &mut Tape, judge: &mut Judge) -> (Case, Result<u64, Failure>) {
    let _hush = Hush::new();
    let mut config = Config::draw(&mut On(tape, Subject::Config));
    if let Some(profile) = profile {
        profile.clone_into(&mut config.profile);
    }
    let seed = tape.choose(Subject::Crash, 1 << 32);
    let mut world = World::new(&config);
    let mut dice = On(tape, Subject::Workload);
    let mut plan = Plan::new(&config, &mut dice);
    let mut noted = Noted::new(&mut plan);
    let ran = driver::run(&mut world, &mut noted);
    let case = Case { why: String::new(), rule: String::new(), config, seed, ops: noted.ops };
    let result = ran.and_then(|()| examine(&world, seed, judge));
    (case, result)
}

/// Runs a case and judges it; gives the hash of its trace.
///
/// # Errors
/// The first promise that did not hold.
pub fn run_case(case: &Case, judge: &mut Judge) -> Result<u64, Failure> {
    let _hush = Hush::new();
    let mut world = World::new(&case.config);
    driver::run(&mut world, &mut case.ops.iter())?;
    examine(&world, case.seed, judge)
}

fn examine(world: &World, seed: u64, judge: &mut Judge) -> Result<u64, Failure> {
    judge.effort.limits.seed = seed;
    let barriers = judge.judge(world, 0)?;
    let mut dice = Tape::seeded(seed);
    if world.src.faults_struck() > 0 {
        // One class of faults per run: after a failed sync one slot of the root record may be stale on the medium.
        return Ok(world.src.trace_hash() ^ world.dst.trace_hash().rotate_left(1));
    }
    let tried = damage(world, &barriers, &mut On(&mut dice, Subject::Faults), DAMAGES)?;
    *judge.count.marks.entry("damaged images").or_default() += tried;
    Ok(world.src.trace_hash() ^ world.dst.trace_hash().rotate_left(1))
}

impl Case {
    /// Reads the text form.
    ///
    /// # Errors
    /// The line that makes no sense.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#'));
        if lines.next() != Some("case 1") {
            return Err("a case begins with the line `case 1`".to_owned());
        }
        let mut case =
            Self { why: String::new(), rule: String::new(), config: Config::default(), seed: 0, ops: Vec::new() };
        for line in lines {
            let (word, rest) = line.split_once(' ').ok_or_else(|| format!("`{line}` says nothing"))?;
            let rest = rest.trim();
            match word {
                "why" => case.why = rest.to_owned(),
                "rule" => case.rule = rest.to_owned(),
                "config" => case.config = Config::parse(rest)?,
                "seed" => case.seed = rest.parse().map_err(|_| format!("`{rest}` is no seed"))?,
                "op" => case.ops.push(parse(rest)?),
                _ => return Err(format!("`{word}` begins no line of a case")),
            }
        }
        Ok(case)
    }

    /// A judge who looks at a single case as hard as is sensible.
    #[must_use]
    pub fn judge() -> Judge {
        Judge::new(Effort { nested: 2, verify: 1, ..Effort::swarm(0) })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "case 1")?;
        for (word, text) in [("why", &self.why), ("rule", &self.rule)] {
            if !text.is_empty() {
                writeln!(f, "{word:8} {text}")?;
            }
        }
        writeln!(f, "config   {}", self.config)?;
        writeln!(f, "seed     {}", self.seed)?;
        self.ops.iter().try_for_each(|op| writeln!(f, "op       {op}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_read_back() {
        let ops = ["create t0", "put t0 k1 = #1 x60", "checkpoint drop-all", "restart"];
        let case = Case {
            why: "for the sake of it".to_owned(),
            rule: "read".to_owned(),
            config: Config { cache: 777, ..Config::default() },
            seed: 12,
            ops: ops.iter().map(|l| parse(l).unwrap()).collect(),
        };
        assert_eq!(Case::parse(&case.to_string()).unwrap(), case);
        assert!(Case::parse("case 1\nop sing").is_err());
    }
}
