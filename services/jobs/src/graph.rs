//! The order of a job's tasks. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::job::Task;

/// The tasks that may be begun: not among those seen yet, and all before them are done.
pub fn ready<'t>(
    tasks: &'t [Task],
    done: &BTreeSet<&'static str>,
    seen: &BTreeSet<&'static str>,
) -> Vec<&'t Task> {
    let begins =
        |task: &&Task| !seen.contains(task.name) && task.after.iter().all(|name| done.contains(name));
    tasks.iter().filter(begins).collect()
}

/// What is wrong with a graph: a name twice, a task after one that is not there, or a circle.
pub fn flaw(tasks: &[Task]) -> Option<String> {
    let mut named = BTreeMap::new();
    for task in tasks {
        if named.insert(task.name, task).is_some() {
            return Some(format!("task {} is there twice", task.name));
        }
    }
    for task in tasks {
        if let Some(missing) = task.after.iter().find(|name| !named.contains_key(*name)) {
            return Some(format!("task {} comes after {missing}, which is not there", task.name));
        }
    }
    let mut done = BTreeSet::new();
    loop {
        let next: Vec<_> = ready(tasks, &done, &done).iter().map(|task| task.name).collect();
        if next.is_empty() {
            break;
        }
        done.extend(next);
    }
    tasks
        .iter()
        .find(|task| !done.contains(task.name))
        .map(|task| format!("task {} waits for itself", task.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIAMOND: [Task; 4] = [
        Task { name: "end", after: &["left", "right"] },
        Task { name: "left", after: &["begin"] },
        Task { name: "right", after: &["begin"] },
        Task { name: "begin", after: &[] },
    ];

    fn names(tasks: Vec<&Task>) -> Vec<&'static str> {
        tasks.iter().map(|task| task.name).collect()
    }

    #[test]
    fn a_task_is_ready_when_all_before_it_are_done() {
        let next = |done: &[&'static str], seen: &[&'static str]| {
            names(ready(&DIAMOND, &done.iter().copied().collect(), &seen.iter().copied().collect()))
        };
        assert_eq!(next(&[], &[]), ["begin"]);
        assert_eq!(next(&[], &["begin"]), [""; 0]);
        assert_eq!(next(&["begin"], &["begin"]), ["left", "right"]);
        assert_eq!(next(&["begin", "left"], &["begin", "left", "right"]), [""; 0]);
        assert_eq!(next(&["begin", "left", "right"], &["begin", "left", "right"]), ["end"]);
    }

    #[test]
    fn circles_and_missing_tasks_are_found() {
        assert_eq!(flaw(&DIAMOND), None);
        let circle = [Task { name: "a", after: &["b"] }, Task { name: "b", after: &["a"] }];
        assert_eq!(flaw(&circle), Some("task a waits for itself".to_owned()));
        let dangling = [Task { name: "a", after: &["c"] }];
        assert_eq!(flaw(&dangling), Some("task a comes after c, which is not there".to_owned()));
        let twice = [Task { name: "a", after: &[] }, Task { name: "a", after: &[] }];
        assert_eq!(flaw(&twice), Some("task a is there twice".to_owned()));
    }
}
