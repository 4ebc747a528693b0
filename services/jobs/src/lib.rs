//! The night shift: jobs that run once per business day, whatever was down at midnight.
//!
//! The [`schedule`] says which days of which [`job`] are due; the scheduler makes the runs that are missing (one row per job and
//! day, in the store) and announces them through apalis; a worker claims a run and [`execute`]s its graph of tasks. [`serve`]
//! runs scheduler and worker; [`by_hand`] executes runs in the foreground.

pub mod built_in;
pub mod by_hand;
pub mod execute;
pub mod graph;
pub mod job;
pub mod metrics;
pub mod rails;
pub mod schedule;
pub mod serve;
pub mod timetable;
mod worker;

pub use job::{Job, Task, TaskContext, TaskError, TaskOutput};
pub use rails::{OtherTimezone, Rails, Registry};
pub use schedule::{Schedule, ScheduleError};
