//! What the killed process writes, as a function of step numbers: so a state can be judged by what it says of itself.
//!
//! Every writer takes steps 1, 2, 3 and so on, one transaction each. A step writes one row of each of three tables, one of
//! them outside the log, and the writer's *progress*: its number, the round of the test, and how far the writer saw the
//! others. A row's key follows from the step's number, in a cycle; what it holds, or that it is removed, from the number and
//! the round. So a state in which every writer stands at some step is known row by row, and nothing from a history that was
//! given up by an earlier crash can pass for a row of this one.
//!
//! Every [`LINK`]th step of a writer also adds a link to one chain that all writers share, which puts those in one order.

use std::collections::BTreeMap;

/// How many there are: all but the last only write, the last is the keeper.
pub const WRITERS: usize = 4;
/// The one that also takes checkpoints, opens backups and changes tables.
pub const KEEPER: usize = WRITERS - 1;
/// A logged table, with the progress and the chain.
pub const ROWS: &str = "rows";
/// Another logged table.
pub const MORE: &str = "more";
/// The table outside the log, otherwise equal to [`MORE`].
pub const LOOSE: &str = "loose";
/// Steps between two links of the chain.
pub const LINK: u64 = 8;
/// Links that are kept.
pub const LINKS: u64 = 32;
/// Keys of one writer in one table.
const SLOTS: u64 = 61;

/// How far every writer is.
pub type Steps = [u64; WRITERS];
/// The contents of a table.
pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// The larger of two, writer by writer.
pub fn further(a: Steps, b: Steps) -> Steps {
    std::array::from_fn(|w| a[w].max(b[w]))
}

/// True when no writer is further in `a` than in `b`.
pub fn within(a: &Steps, b: &Steps) -> bool {
    a.iter().zip(b).all(|(a, b)| a <= b)
}

/// A small generator.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % below
    }
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

pub fn progress_key(writer: usize) -> String {
    format!("progress-{writer}")
}

pub fn link_key(link: u64) -> String {
    format!("link-{:02}", link % LINKS)
}

/// The row that a step writes, and what it holds then; `None` when the step removes it.
pub fn row(table: &str, writer: usize, step: u64, round: u64) -> (String, Option<Vec<u8>>) {
    let (salt, stride) = if table == ROWS { (1, 1) } else { (2, 7) };
    let chance = mix(mix(step ^ (round << 40)) ^ (writer as u64) << 8 ^ salt);
    let key = format!("{writer}-{:02}", step * stride % SLOTS);
    let bytes = match step {
        // Larger than a segment of the log, and than a page.
        n if n % 401 == 0 => 150_000,
        n if n % 37 == 0 => 6_000,
        _ => chance / 8 % 300,
    };
    let mut value = format!("{step} {round} ").into_bytes();
    value.resize(value.len() + bytes as usize, b'a' + (chance % 26) as u8);
    (key, (!chance.is_multiple_of(5)).then_some(value))
}

/// Which round took which steps: where the writers stood at the end of each.
#[derive(Clone, Debug, Default)]
pub struct History(pub Vec<Steps>);

impl History {
    /// The round of a step; one that no round has ended with is of the current one.
    fn round(&self, writer: usize, step: u64) -> u64 {
        self.0.partition_point(|end| end[writer] < step) as u64
    }

    /// All rows of a table when the writers stand there, progress and chain left out.
    fn rows(&self, table: &str, at: &Steps) -> Rows {
        let mut rows = Rows::new();
        for (writer, &last) in at.iter().enumerate() {
            for step in last.saturating_sub(SLOTS) + 1..=last {
                let (key, value) = row(table, writer, step, self.round(writer, step));
                match value {
                    Some(value) => rows.insert(key.into_bytes(), value),
                    None => rows.remove(key.as_bytes()),
                };
            }
        }
        rows
    }
}

/// Where the writers stand in a state that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// In the tables of the log.
    pub logged: Steps,
    /// In the table outside the log.
    pub loose: Steps,
}

impl State {
    /// Reads a state, every row of it, and errs when it is not one that ever was: half a transaction, a transaction
    /// without one that it saw, rows of another history.
    pub fn read(history: &History, mut table: impl FnMut(&str) -> Rows) -> Result<Self, String> {
        let mut rows = table(ROWS);
        let chain: Rows = rows.extract_if(.., |key, _| key.starts_with(b"link") || key == b"chain").collect();
        let logged = standing(history, &mut rows, ROWS)?;
        equal(ROWS, &rows, &history.rows(ROWS, &logged))?;
        equal(MORE, &table(MORE), &history.rows(MORE, &logged))?;
        check_chain(&chain, &logged)?;
        let mut rows = table(LOOSE);
        let loose = standing(history, &mut rows, LOOSE)?;
        equal(LOOSE, &rows, &history.rows(MORE, &loose))?;
        match within(&loose, &logged) {
            true => Ok(Self { logged, loose }),
            false => Err(format!("the log has {logged:?}, the table outside it {loose:?}")),
        }
    }
}

/// Takes the progress out of a table's rows.
fn standing(history: &History, rows: &mut Rows, table: &str) -> Result<Steps, String> {
    let mut at = Steps::default();
    let mut saw = [Steps::default(); WRITERS];
    for writer in 0..WRITERS {
        let Some(value) = rows.remove(progress_key(writer).as_bytes()) else { continue };
        let numbers = numbers(&value)?;
        let [step, round, others @ ..] = numbers.as_slice() else { return Err("a short progress".to_owned()) };
        if *round != history.round(writer, *step) {
            return Err(format!("{table}: step {step} of writer {writer} is of round {round}: another history"));
        }
        at[writer] = *step;
        saw[writer] = others.try_into().map_err(|_| "a short progress")?;
    }
    match saw.iter().position(|saw| !within(saw, &at)) {
        None => Ok(at),
        Some(w) => Err(format!("{table}: at {at:?}, but writer {w} had seen {:?}", saw[w])),
    }
}

fn numbers(value: &[u8]) -> Result<Vec<u64>, String> {
    let text = String::from_utf8_lossy(value);
    text.split(' ').map(|n| n.parse().map_err(|_| format!("not numbers: {text:?}"))).collect()
}

fn equal(table: &str, found: &Rows, due: &Rows) -> Result<(), String> {
    let short = |value: Option<&Vec<u8>>| {
        value.map(|v| format!("{} ({} bytes)", String::from_utf8_lossy(&v[..v.len().min(16)]), v.len()))
    };
    let wrong = found.keys().chain(due.keys()).find(|key| found.get(*key) != due.get(*key));
    wrong.map_or(Ok(()), |key| {
        let key_text = String::from_utf8_lossy(key);
        Err(format!("{table}: {key_text} holds {:?} where {:?} is due", short(found.get(key)), short(due.get(key))))
    })
}

/// The chain has a link for every step that makes one, and the last of them in their places.
fn check_chain(chain: &Rows, at: &Steps) -> Result<(), String> {
    let links: u64 = at.iter().map(|step| step / LINK).sum();
    let head = chain.get(b"chain".as_slice()).map_or(Ok(0), |head| Ok::<_, String>(numbers(head)?[0]))?;
    if head != links {
        return Err(format!("the chain has {head} links where {links} are due at {at:?}"));
    }
    let mut newest = at.map(|step| step / LINK * LINK);
    for link in (links.saturating_sub(LINKS) + 1..=links).rev() {
        let value = chain.get(link_key(link).as_bytes()).ok_or_else(|| format!("link {link} is missing"))?;
        let &[number, writer, step] = numbers(value)?.as_slice() else { return Err("a short link".to_owned()) };
        let due = newest.get_mut(writer as usize).ok_or("a link of nobody")?;
        if number != link || step != *due {
            return Err(format!("link {link} is {number} of writer {writer}, step {step} where {due} is due"));
        }
        *due -= LINK;
    }
    Ok(())
}
