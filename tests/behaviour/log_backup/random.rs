//! Random histories of a source and of copies that follow it, by each way in which a copy can.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Fill {
        table: u8,
        rows: u8,
        tag: u8,
    },
    Create {
        table: u8,
    },
    Rename {
        from: u8,
        to: u8,
    },
    Drop {
        table: u8,
    },
    Checkpoint,
    /// The source is closed and opened again.
    Reopen,
    /// The source dies and is opened again.
    Crash,
    /// The source dies with a backup open, which is copied or not, and falls back.
    Fall {
        copied: bool,
        rows: u8,
    },
    /// An increment; what is safe may go afterwards.
    Increment {
        apply: bool,
        remove: bool,
    },
    /// A full backup into a new copy, and catch-ups of it.
    Full {
        catch_ups: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let table = 0..4_u8;
    prop_oneof![
        6 => (table.clone(), 1..60_u8, any::<u8>()).prop_map(|(table, rows, tag)| Step::Fill { table, rows, tag }),
        1 => table.clone().prop_map(|table| Step::Create { table }),
        1 => (table.clone(), table.clone()).prop_map(|(from, to)| Step::Rename { from, to }),
        1 => table.prop_map(|table| Step::Drop { table }),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
        1 => (any::<bool>(), 0..30_u8).prop_map(|(copied, rows)| Step::Fall { copied, rows }),
        4 => (any::<bool>(), any::<bool>()).prop_map(|(apply, remove)| Step::Increment { apply, remove }),
        1 => (0..3_u8).prop_map(|catch_ups| Step::Full { catch_ups }),
    ]
}

fn name(table: u8) -> String {
    format!("t{table}")
}

struct Run {
    stage: Stage,
    db: Option<Database>,
    /// The copy that follows, and how many directories were made.
    copy: String,
    made: usize,
}

impl Run {
    fn begin() -> Self {
        let stage = Stage::new();
        let db = logged(&stage).log_segment_bytes_unchecked(4 << 10).open(HOME).unwrap();
        let mut run = Self { stage, db: Some(db), copy: String::new(), made: 0 };
        run.full(0);
        run
    }

    fn db(&self) -> &Database {
        self.db.as_ref().unwrap()
    }

    fn place(&mut self, what: &str) -> String {
        self.made += 1;
        format!("{what}{}", self.made)
    }

    fn full(&mut self, catch_ups: u8) {
        self.copy = self.place("copy");
        let places: Vec<String> = (0..catch_ups).map(|_| self.place("up")).collect();
        let db = self.db();
        let mut backup = db.backup(BackupOptions::new()).unwrap();
        copy(&backup, &self.copy);
        for place in &places {
            fill(db, &name(0), 7, place);
            backup.catch_up().unwrap().copy_to(place, quietly).unwrap();
        }
        backup.finish().unwrap();
        for (nth, place) in places.iter().enumerate() {
            self.roll(place, nth % 2 == 0);
        }
        self.check();
    }

    fn roll(&self, increment: &str, by_call: bool) {
        if by_call {
            apply(&self.stage, increment, &self.copy).unwrap();
        } else {
            lay(&self.stage, increment, &self.copy);
        }
    }

    /// The copy has what the source has, and the source goes on.
    fn check(&self) {
        assert!(verify(&self.stage, &self.copy).is_sound());
        let seen = contents(&self.stage.options().read_only(true).open(&self.copy).unwrap());
        assert_eq!(seen, contents(self.db()));
        let opened = self.stage.crash().open_at(&self.copy);
        assert_eq!(contents(&opened), seen);
    }

    fn step(&mut self, step: &Step) {
        let db = self.db();
        match step {
            Step::Fill { table, rows, tag } => fill(db, &name(*table), usize::from(*rows), &tag.to_string()),
            Step::Create { table } => drop(super::super::stage::table(db, &name(*table))),
            Step::Rename { from, to } => drop(db.rename_table(&name(*from), &name(*to))),
            Step::Drop { table } => drop(db.drop_table(&name(*table), true)),
            Step::Checkpoint => checkpoint(db),
            Step::Reopen => {
                self.db.take().unwrap().close().unwrap();
                self.db = Some(self.stage.open());
            }
            Step::Crash => {
                let after = self.stage.crash();
                self.db = None;
                self.stage = after;
                self.db = Some(self.stage.open());
            }
            Step::Fall { copied, rows } => {
                let place = self.place("fallen");
                let backup = self.db().backup(BackupOptions::new()).unwrap();
                fill(self.db(), &name(0), usize::from(*rows), "during");
                if *copied {
                    checkpoint(self.db());
                    copy(&backup, &place);
                }
                let after = self.stage.crash();
                drop(backup);
                if *copied {
                    self.copy = place;
                }
                self.db = None;
                self.stage = after;
                let db = self.stage.open();
                assert!(matches!(db.recovery().kind, RecoveryKind::FellBack { .. }));
                self.db = Some(db);
            }
            Step::Increment { apply, remove } => {
                let place = self.place("inc");
                let mut backup = self.db().backup(BackupOptions::new().log_only()).unwrap();
                copy(&backup, &place);
                if *remove {
                    backup.remove_log().unwrap();
                }
                backup.finish().unwrap();
                self.roll(&place, *apply);
                self.check();
            }
            Step::Full { catch_ups } => self.full(*catch_ups),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    /// Covers: K8, LI-1, LI-3, LI-4, LI-6.
    #[test]
    fn a_copy_follows_its_source(steps in prop::collection::vec(step(), 1..30)) {
        let mut run = Run::begin();
        for step in &steps {
            run.step(step);
        }
        run.step(&Step::Increment { apply: true, remove: true });
    }
}
