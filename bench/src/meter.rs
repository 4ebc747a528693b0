//! What processes use, as /proc tells it (proc_pid_stat(5), proc_pid_status(5)).

use std::time::Duration;

use anyhow::Context;

/// Ticks of /proc's clock in a second: a constant of Linux's interface on all that we run on (`getconf CLK_TCK`).
const TICKS: f64 = 100.0;

/// A program that is watched.
#[derive(Debug, Clone)]
pub struct Watched {
    /// What it is called in the table.
    pub name: &'static str,
    /// Its process.
    pub pid: u32,
}

/// CPU seconds of each watched program so far: its own, its living children's, and those of children that have ended.
pub fn cpu(programs: &[Watched]) -> anyhow::Result<Vec<f64>> {
    programs.iter().map(|program| family_seconds(program.pid).with_context(|| program.name)).collect()
}

fn family_seconds(pid: u32) -> anyhow::Result<f64> {
    let mut seconds = own_seconds(pid, true)?;
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    for child in children.split_whitespace() {
        // One that has ended meanwhile is among those waited for at the next look.
        seconds += own_seconds(child.parse()?, false).unwrap_or(0.0);
    }
    Ok(seconds)
}

/// A process and all that it has started, and they in turn, as far as they live.
pub fn family(pid: u32) -> Vec<u32> {
    let mut family = vec![pid];
    let mut at = 0;
    while let Some(&pid) = family.get(at) {
        // Each thread's children are listed with it.
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
        for list in lists {
            family.extend(list.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        at += 1;
    }
    family
}

/// Seconds in user and kernel mode, with those of children waited for if wanted.
pub fn own_seconds(pid: u32, with_children: bool) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command may hold anything, spaces and brackets too.
    let (_, fields) = stat.rsplit_once(')').context("a stat without a command")?;
    let ticks: Vec<&str> =
        fields.split_whitespace().skip(11).take(if with_children { 4 } else { 2 }).collect();
    let ticks: Result<Vec<f64>, _> = ticks.iter().map(|field| field.parse::<f64>()).collect();
    Ok(ticks?.iter().sum::<f64>() / TICKS)
}

/// MiB that a process holds in memory (`VmRSS`), or held at its peak (`VmHWM`); none once it has ended.
pub fn mebibytes(pid: u32, which: &str) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(which)?.strip_prefix(':'))?;
    line.trim().split(' ').next()?.parse::<f64>().ok().map(|kibibytes| kibibytes / 1024.0)
}

/// What a product's process used from its start to its end; looked at while it runs, so the last moment is missing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Used {
    /// CPU seconds.
    pub cpu: f64,
    /// The most memory, in MiB.
    pub peak_mib: f64,
}

/// How often a process is looked at.
pub const LOOK: Duration = Duration::from_millis(20);

impl Used {
    /// Looks at a process; what was seen before stays if it has ended.
    pub fn look(&mut self, pid: u32) {
        self.cpu = own_seconds(pid, false).map_or(self.cpu, |seconds| seconds.max(self.cpu));
        self.peak_mib = mebibytes(pid, "VmHWM").map_or(self.peak_mib, |most| most.max(self.peak_mib));
    }
}

/// The middle of an odd number of figures, the upper one of the two middle ones else; with the least and the most.
pub fn spread(mut figures: Vec<f64>) -> anyhow::Result<[f64; 3]> {
    figures.sort_by(f64::total_cmp);
    let (least, most) = figures.first().zip(figures.last()).context("nothing was measured")?;
    Ok([*least, figures[figures.len() / 2], *most])
}

/// The figure that this share of sorted figures does not exceed, in milliseconds.
pub fn percentile(sorted: &[Duration], share: f64) -> f64 {
    let at = ((sorted.len().saturating_sub(1)) as f64 * share) as usize;
    sorted.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1_000.0)
}
