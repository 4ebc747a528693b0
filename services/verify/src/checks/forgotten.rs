//! Users who were forgotten: what was erased, and that nothing of them is left.

use rustc_hash::FxHashMap;

use crate::facts::Facts;
use crate::names::Name;
use crate::report::Check;

/// Nothing from before a user was forgotten names them; and, for people, what could not be compared since it was erased.
pub fn check(facts: &Facts) -> (Check, Option<String>) {
    let mut check = Check::new(
        "forgotten_users",
        "what was erased was erased for a user on record, and no line from before still names one of them",
    );
    let mut first: FxHashMap<Name, i64> = FxHashMap::default();
    if !facts.forgotten.is_empty() {
        for line in &facts.lines {
            if let Some(party) = line.party {
                let at = first.entry(party).or_insert(line.processed_at);
                *at = line.processed_at.min(*at);
            }
        }
    }
    for (party, at) in first {
        let text = facts.names.text(party);
        for forgotten in facts.forgotten.iter().filter(|forgotten| forgotten.is(text)) {
            let token = facts.names.text(forgotten.token);
            check.expect(at > forgotten.at, || format!("{token}: lines from before name the user still"));
        }
    }
    let erased = facts.log.iter().filter(|row| row.erased).count();
    for forgotten in &facts.forgotten {
        let token = facts.names.text(forgotten.token);
        check.item((forgotten.at <= 0).then(|| format!("{token}: it is not said when")));
    }
    if erased > 0 {
        check.expect(!facts.forgotten.is_empty(), || {
            format!("{erased} records of the log are erased, and no user is on record for it")
        });
    }
    let note = (erased > 0).then(|| {
        format!(
            "{erased} records of the log had a user erased ({} forgotten): their bytes were not compared, \
             and their user only by its digest; all else was",
            facts.forgotten.len()
        )
    });
    (check, note)
}
