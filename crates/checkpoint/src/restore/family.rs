//! In which order, and by whom, processes are made so that each has its parent and its session.
//!
//! A session is inherited at birth: a child of the session that its parent was born into must be made before the
//! parent's own setsid(2), a child of the parent's session after it. Any other session was that of a process between
//! them that is gone: a helper takes its part for a moment.

use crate::error::{Error, Kind, Result};
use crate::image::tree::Process;

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Making {
    /// The process gets its memory.
    Memory {
        /// Its place in the tree.
        process: usize,
    },
    /// The process begins a session.
    SetSid {
        /// Its place in the tree.
        process: usize,
    },
    /// A process makes its child.
    Fork {
        /// The parent's place in the tree.
        parent: usize,
        /// The child's place in the tree.
        child: usize,
    },
    /// A process makes a helper, which makes the child and ends.
    Orphan {
        /// The place of the process that makes the helper.
        through: usize,
        /// The session that the helper leads; `None` when it only joins that of `through`.
        leader: Option<i32>,
        /// The child's place in the tree.
        child: usize,
    },
}

/// Plans a tree whose first process is there already, in session 0 (one from outside) or its own.
pub(super) fn plan(processes: &[Process]) -> Result<Vec<Making>> {
    let mut planner = Planner { processes, steps: Vec::new(), orphans: Vec::new() };
    planner.grow(0, processes[0].sid);
    while let Some(orphan) = planner.orphans.pop() {
        planner.adopt(orphan)?;
    }
    Ok(planner.steps)
}

struct Planner<'a> {
    processes: &'a [Process],
    steps: Vec<Making>,
    /// Children of a session that neither they nor their parent can give them.
    orphans: Vec<usize>,
}

impl Planner<'_> {
    /// Everything that a process does once it exists; `born_in` is the session it was made in.
    fn grow(&mut self, place: usize, born_in: i32) {
        let process = &self.processes[place];
        if process.live.is_none() {
            return;
        }
        self.steps.push(Making::Memory { process: place });
        let children: Vec<usize> =
            (0..self.processes.len()).filter(|i| *i != 0 && self.processes[*i].ppid == process.pid).collect();
        let leads = process.sid == process.pid && born_in != process.sid;
        let mut later = Vec::new();
        for child in children {
            let made = &self.processes[child];
            if leads && made.sid == born_in {
                self.fork(place, child, born_in);
            } else {
                later.push(child);
            }
        }
        if leads {
            self.steps.push(Making::SetSid { process: place });
        }
        for child in later {
            let made = &self.processes[child];
            if made.sid == process.sid || made.sid == made.pid {
                self.fork(place, child, process.sid);
            } else {
                self.orphans.push(child);
            }
        }
    }

    fn fork(&mut self, parent: usize, child: usize, session: i32) {
        self.steps.push(Making::Fork { parent, child });
        self.grow(child, session);
    }

    fn adopt(&mut self, child: usize) -> Result<()> {
        let made = &self.processes[child];
        let parent = self.processes.iter().position(|p| p.pid == made.ppid);
        let parent = parent.filter(|p| *p == 0 || self.processes[*p].live.as_ref().is_some_and(|l| l.subreaper));
        let Some(parent) = parent else {
            return Err(Error::new(
                Kind::Unsupported,
                format!("process {} is of session {}, which its parent {} never had", made.pid, made.sid, made.ppid),
            ));
        };
        let step = match self.processes.iter().position(|p| p.sid == made.sid && p.pid == made.sid && p.live.is_some())
        {
            Some(through) => Making::Orphan { through, leader: None, child },
            None => Making::Orphan { through: parent, leader: Some(made.sid), child },
        };
        self.steps.push(step);
        self.grow(child, made.sid);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Making::{Fork, Memory, Orphan, SetSid};
    use super::*;
    use crate::image::tree::{Live, State};

    fn process(pid: i32, ppid: i32, sid: i32) -> Process {
        let live = serde_json::json!({
            "mm": 0, "table": 0, "fs": 0, "cwd": 0, "root": 0, "umask": 18, "actions": [],
            "timers": serde_json::to_value(crate::resource::timer::Timers::default()).unwrap(),
            "limits": [], "subreaper": false, "dumpable": 1, "thp_disable": false, "oom_score_adj": 0,
            "coredump_filter": 51, "personality": 0, "threads": [],
        });
        let live: Live = serde_json::from_value(live).unwrap();
        Process { pid, ppid, pgid: sid, sid, exit_signal: 17, state: State::Running, live: Some(Box::new(live)) }
    }

    #[test]
    fn a_child_of_the_old_session_comes_before_setsid() {
        // 2 leads a session; its child 3 still belongs to that of 1, its child 4 to its own.
        let tree = [process(1, 0, 1), process(2, 1, 2), process(3, 2, 1), process(4, 2, 2)];
        let expected = [
            Memory { process: 0 },
            Fork { parent: 0, child: 1 },
            Memory { process: 1 },
            Fork { parent: 1, child: 2 },
            Memory { process: 2 },
            SetSid { process: 1 },
            Fork { parent: 1, child: 3 },
            Memory { process: 3 },
        ];
        assert_eq!(plan(&tree).unwrap(), expected);
    }

    #[test]
    fn a_daemon_of_a_dead_leader_comes_through_a_helper() {
        let tree = [process(1, 0, 1), process(30, 1, 29)];
        let expected =
            [Memory { process: 0 }, Orphan { through: 0, leader: Some(29), child: 1 }, Memory { process: 1 }];
        assert_eq!(plan(&tree).unwrap(), expected);
    }

    #[test]
    fn an_orphan_of_a_living_leader_comes_through_that_leader() {
        let tree = [process(1, 0, 1), process(5, 1, 5), process(9, 1, 5)];
        let steps = plan(&tree).unwrap();
        assert_eq!(steps[steps.len() - 2..], [Orphan { through: 1, leader: None, child: 2 }, Memory { process: 2 }]);
    }

    #[test]
    fn a_session_from_nowhere_is_refused() {
        let tree = [process(1, 0, 1), process(2, 1, 1), process(3, 2, 77)];
        assert!(plan(&tree).unwrap_err().to_string().contains("session 77"));
    }
}
