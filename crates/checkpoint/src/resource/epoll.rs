//! Event polls (epoll_create(2)): the files watched, under the numbers they had when they were added.
//!
//! An item belongs to an open file description, not to a number: the number may be closed or mean another file by now,
//! and only kcmp(2) tells which description it is. At restore a thread of ours gives each file its number while it
//! adds it, so no task is needed; epolls may watch each other.
//!
//! What was ready is ready again, also edge-triggered: a program may see an event a second time, and misses none.
//! An item that `EPOLLONESHOT` has disabled is disabled again if its file is ready for anything; otherwise it still
//! reports an error or hang-up, which the kernel adds to every item, once.

use crate::Result;
use crate::error::{Context as _, bad_image};
use crate::files::dumping::Dump;
use crate::files::resource::Resource;
use crate::files::restoring::{Restore, with_numbers};
use crate::files::{FileId, FileRef, Probe};
use crate::procfs::fdinfo;
use rtc_sys::events::{EpollChange, EpollParams, epoll_change, epoll_params, epoll_set_params};
use rtc_sys::{CallExt as _, Errno, kcmp};
use rustix::event::epoll;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::os::fd::{BorrowedFd, OwnedFd};

const EPOLLONESHOT: u32 = 1 << 30;
/// How an item behaves, as opposed to what it waits for: EXCLUSIVE, WAKEUP, ONESHOT, ET.
const BEHAVIOUR: u32 = 0xf000_0000;
/// Everything that a file can be ready for.
const ANYTHING: u32 = 0x0000_27df;
/// Until the last look says which.
const UNKNOWN: FileId = FileId(u32::MAX);

/// An epoll instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoll {
    /// What it watches, in the kernel's order.
    pub items: Vec<Item>,
    /// How it polls network devices, if it was told to: microseconds, budget, preference (ioctl_eventpoll(2)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy_poll: Option<(u32, u16, u8)>,
}

/// A watched file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The number it had when it was added.
    pub fd: i32,
    /// What it is.
    pub file: FileId,
    /// `EPOLL*` bits.
    pub events: u32,
    /// What epoll_wait(2) returns with it.
    pub data: u64,
}

impl Item {
    /// Whether it has reported its one event and waits to be armed again.
    fn is_disabled(&self) -> bool {
        self.events & EPOLLONESHOT != 0 && self.events & !BEHAVIOUR == 0
    }
}

impl Resource for Epoll {
    fn recognises(probe: &Probe<'_>, _cx: &Dump<'_>) -> bool {
        probe.link == "anon_inode:[eventpoll]"
    }

    fn dump(probe: &Probe<'_>, _cx: &mut Dump<'_>) -> Result<Option<Self>> {
        let items = fdinfo::epoll(probe.fdinfo)?.into_iter();
        let items = items.map(|i| Item { fd: i.fd, file: UNKNOWN, events: i.events, data: i.data }).collect();
        // Before Linux 6.9 there are no such parameters.
        let busy_poll = epoll_params(probe.fd).ok().filter(|params| *params != EpollParams::default());
        let busy_poll = busy_poll.map(|p| (p.busy_poll_usecs, p.busy_poll_budget, p.prefer_busy_poll));
        Ok(Some(Self { items, busy_poll }))
    }

    fn conclude(all: &mut [(FileId, &mut Self)], cx: &mut Dump<'_>) -> Result<()> {
        for (id, instance) in all {
            // How many items with the same number came before.
            let mut seen: HashMap<i32, u32> = HashMap::new();
            for item in &mut instance.items {
                let nth = seen.entry(item.fd).or_default();
                match find(*id, item.fd, *nth, cx)? {
                    Some(file) => item.file = file,
                    None if cx.check_only() => {}
                    None => cx.block_file(
                        *id,
                        format!("it watches fd {}, whose file nobody in the container has open any more", item.fd),
                        "let the program remove the file from the epoll instance before it closes it",
                    )?,
                }
                *nth += 1;
            }
        }
        Ok(())
    }

    fn open(&self, _file: FileRef, _cx: &mut Restore<'_>) -> Result<OwnedFd> {
        Ok(epoll::create(epoll::CreateFlags::CLOEXEC).call("epoll_create1", "EPOLL_CLOEXEC")?)
    }

    const FINISHES: bool = true;

    fn finish(&self, file: FileRef, cx: &mut Restore<'_>) -> Result<()> {
        let instance = cx.opened(file.id)?;
        if let Some((usecs, budget, prefer)) = self.busy_poll {
            epoll_set_params(instance, EpollParams::new(usecs, budget, prefer))?;
        }
        // Disabled items first, while nothing else can be ready. One number can stand for several files, which then
        // take it one after another.
        let mut items: Vec<&Item> = self.items.iter().collect();
        items.sort_by_key(|item| !item.is_disabled());
        while !items.is_empty() {
            let mut taken = std::collections::HashSet::new();
            let (now, later) = items.into_iter().partition::<Vec<_>, _>(|item| taken.insert(item.fd));
            add(instance, &now, cx)?;
            items = later;
        }
        Ok(())
    }
}

/// The description that the item with the number `fd`, the `nth` of that number, belongs to.
fn find(epoll: FileId, fd: i32, nth: u32, cx: &Dump<'_>) -> Result<Option<FileId>> {
    let Some((epoll_pid, epoll_fd)) = cx.handle(epoll) else { return Ok(None) };
    let is_it = |id: FileId| -> Result<bool> {
        let Some((pid, number)) = cx.handle(id) else { return Ok(false) };
        match kcmp::kcmp_epoll(pid, number, epoll_pid, epoll_fd, fd, nth) {
            Ok(order) => Ok(order == Ordering::Equal),
            // In a preflight, tasks close files and change their epolls meanwhile.
            Err(e) if matches!(e.errno(), Errno::ENOENT | Errno::EBADF | Errno::ESRCH) => Ok(false),
            Err(e) => Err(e.into()),
        }
    };
    // Nearly always it is what still has the number, in the task that has the epoll.
    let own = cx.tables().filter(|table| table.pid == epoll_pid);
    let others = cx.tables().filter(|table| table.pid != epoll_pid);
    for id in own.chain(others).filter_map(|table| table.file(crate::program::TargetFd(fd))) {
        if is_it(id)? {
            return Ok(Some(id));
        }
    }
    for id in (0..).map(FileId).take_while(|id| cx.handle(*id).is_some()) {
        if is_it(id)? {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// Adds items, whose numbers all differ.
fn add(instance: BorrowedFd<'_>, items: &[&Item], cx: &Restore<'_>) -> Result<()> {
    let mut numbered = Vec::with_capacity(items.len());
    for item in items {
        if item.events & !(BEHAVIOUR | ANYTHING) != 0 {
            return Err(bad_image(format!("an epoll item with the events {:#x}", item.events)));
        }
        numbered.push((cx.opened(item.file)?, item.fd));
    }
    with_numbers(&numbered, &[instance], |others| {
        for item in items {
            let added = if item.is_disabled() { add_disabled(others[0], item) } else { add_one(others[0], item) };
            added.context(|| format!("watch fd {} ({})", item.fd, item.file))?;
        }
        Ok(())
    })
}

fn add_one(instance: BorrowedFd<'_>, item: &Item) -> Result<()> {
    Ok(epoll_change(instance, EpollChange::Add, item.fd, item.events, item.data)?)
}

/// The kernel disables an item when it has reported an event, and has no call for it.
fn add_disabled(instance: BorrowedFd<'_>, item: &Item) -> Result<()> {
    epoll_change(instance, EpollChange::Add, item.fd, item.events | ANYTHING, item.data)?;
    let mut event = Vec::with_capacity(1);
    let now = rustix::time::Timespec::default();
    let reported =
        epoll::wait(instance, rustix::buffer::spare_capacity(&mut event), Some(&now)).call("epoll_wait", "1, 0")?;
    if reported == 0 {
        epoll_change(instance, EpollChange::Modify, item.fd, item.events, item.data)?;
    }
    Ok(())
}
