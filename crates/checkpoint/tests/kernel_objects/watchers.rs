//! epoll, pidfd, and what is refused.

use crate::holder::{FIRST, Holder, alone, copy, dump, fdinfo, try_dump};
use rtc_checkpoint::procfs::fdinfo as parse;
use rtc_sys::events::{EpollChange, EpollParams, epoll_change, epoll_params, epoll_set_params};
use rtc_sys::pidfd;
use rustix::event::{EventfdFlags, PollFd, PollFlags, epoll, eventfd, poll};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

const IN: u32 = 1;
const OUT: u32 = 4;
const ONESHOT: u32 = 1 << 30;
const EDGE: u32 = 1 << 31;

fn counter(value: u32) -> OwnedFd {
    eventfd(value, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

fn instance() -> OwnedFd {
    epoll::create(epoll::CreateFlags::CLOEXEC).unwrap()
}

fn watch(epoll: &OwnedFd, file: &OwnedFd, events: u32, data: u64) {
    epoll_change(epoll.as_fd(), EpollChange::Add, file.as_raw_fd(), events, data).unwrap();
}

/// The data of what is ready.
fn ready(epoll: &OwnedFd) -> Vec<u64> {
    let mut events = Vec::with_capacity(16);
    let now = rustix::time::Timespec::default();
    epoll::wait(epoll, rustix::buffer::spare_capacity(&mut events), Some(&now)).unwrap();
    let mut data: Vec<u64> = events.iter().map(|event| event.data.u64()).collect();
    data.sort_unstable();
    data
}

/// What fdinfo says, but for the numbers that differ from one opening to the next.
fn items(epoll: &OwnedFd) -> Vec<(i32, u32, u64)> {
    let mut items: Vec<_> =
        parse::epoll(&fdinfo(epoll)).unwrap().into_iter().map(|i| (i.fd, i.events, i.data)).collect();
    items.sort_unstable();
    items
}

#[test]
fn items_watch_the_same_files_under_the_same_numbers() {
    let _alone = alone();
    let (epoll, quiet, loud) = (instance(), counter(0), counter(5));
    watch(&epoll, &quiet, IN, 0xffff_0000_1111_2222);
    watch(&epoll, &loud, IN | EDGE, 7);
    epoll_set_params(epoll.as_fd(), EpollParams::new(20, 8, 1)).unwrap();
    let before = items(&epoll);
    // The holder has the files under other numbers than those they were added with.
    let new = copy(vec![epoll, quiet, loud]);
    let (epoll, quiet) = (new.get(FIRST), new.get(FIRST + 1));
    assert_eq!(items(&epoll), before);
    assert_eq!(epoll_params(epoll.as_fd()).unwrap(), EpollParams::new(20, 8, 1));
    assert_eq!(ready(&epoll), [7]);
    rustix::io::write(&quiet, &1_u64.to_ne_bytes()).unwrap();
    assert_eq!(ready(&epoll), [0xffff_0000_1111_2222]);
}

#[test]
fn one_number_can_stand_for_several_files() {
    let _alone = alone();
    let (epoll, first) = (instance(), counter(1));
    let kept = first.try_clone().unwrap();
    let number = first.as_raw_fd();
    watch(&epoll, &first, IN, 1);
    drop(first);
    let second = counter(2);
    // Numbers are given from the lowest on; make sure of it rather than rely on it.
    assert_eq!(second.as_raw_fd(), number);
    watch(&epoll, &second, IN, 2);
    let new = copy(vec![epoll, kept, second]);
    let (epoll, first, second) = (new.get(FIRST), new.get(FIRST + 1), new.get(FIRST + 2));
    assert_eq!(items(&epoll).iter().map(|(fd, ..)| *fd).collect::<Vec<_>>(), [number, number]);
    assert_eq!(ready(&epoll), [1, 2]);
    rustix::io::read(&first, &mut [0; 8]).unwrap();
    assert_eq!(ready(&epoll), [2]);
    rustix::io::read(&second, &mut [0; 8]).unwrap();
    assert!(ready(&epoll).is_empty());
}

#[test]
fn epolls_watch_epolls() {
    let _alone = alone();
    let (outer, inner, counter) = (instance(), instance(), counter(0));
    watch(&outer, &inner, IN, 10);
    watch(&inner, &counter, IN, 20);
    let new = copy(vec![outer, inner, counter]);
    let (outer, inner) = (new.get(FIRST), new.get(FIRST + 1));
    assert!(ready(&outer).is_empty());
    rustix::io::write(new.get(FIRST + 2), &1_u64.to_ne_bytes()).unwrap();
    assert_eq!((ready(&outer), ready(&inner)), (vec![10], vec![20]));
}

#[test]
fn an_item_that_had_its_one_event_has_no_second() {
    let _alone = alone();
    let (epoll, used, armed) = (instance(), counter(1), counter(1));
    watch(&epoll, &used, IN | ONESHOT | EDGE, 1);
    assert_eq!(ready(&epoll), [1]);
    watch(&epoll, &armed, IN | OUT | ONESHOT, 2);
    let before = items(&epoll);
    let new = copy(vec![epoll, used, armed]);
    let epoll = new.get(FIRST);
    assert_eq!(items(&epoll), before);
    assert_eq!(ready(&epoll), [2]);
    assert!(ready(&epoll).is_empty());
}

#[test]
fn a_watched_file_that_is_open_nowhere_inside_is_a_blocker() {
    let _alone = alone();
    let (epoll, counter) = (instance(), counter(0));
    watch(&epoll, &counter, IN, 1);
    let holder = Holder::new(&[epoll.as_fd()]);
    let blockers = try_dump(&[&holder]).map(drop).unwrap_err();
    let expected =
        format!("it watches fd {}, whose file nobody in the container has open any more", counter.as_raw_fd());
    assert!(blockers.len() == 1 && blockers[0].contains(&expected), "{blockers:?}");
}

/// Whether the process behind a pidfd is dead.
fn is_over(pidfd: &OwnedFd) -> bool {
    let mut state = [PollFd::new(pidfd, PollFlags::IN)];
    poll(&mut state, Some(&rustix::time::Timespec::default())).unwrap();
    state[0].revents().contains(PollFlags::IN)
}

#[test]
fn a_pidfd_refers_to_the_restored_process() {
    let _alone = alone();
    let (watched, new_one) = (Holder::idle(), Holder::idle());
    let process = pidfd::open(watched.pid()).unwrap();
    let thread = pidfd::open_flags(watched.pid(), libc::O_EXCL | libc::O_NONBLOCK).unwrap();
    let holder = Holder::new(&[process.as_fd(), thread.as_fd()]);
    let image = dump(&holder);
    let new = image.restore_with(&BTreeMap::from([(watched.pid(), new_one.pid())]));
    for (number, flags) in [(FIRST, 0), (FIRST + 1, libc::O_EXCL | libc::O_NONBLOCK)] {
        let fd = new.get(number);
        assert_eq!(parse::pidfd(&fdinfo(&fd)).unwrap(), [new_one.pid()]);
        let shown = nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_GETFL).unwrap();
        assert_eq!(shown & (libc::O_EXCL | libc::O_NONBLOCK), flags);
        assert!(!is_over(&fd));
    }
}

#[test]
fn a_pidfd_of_a_dead_process_is_one_again() {
    let _alone = alone();
    let new = copy(vec![pidfd::dead(5 << 8).unwrap(), pidfd::dead(libc::SIGTERM).unwrap()]);
    for (number, status) in [(FIRST, 5 << 8), (FIRST + 1, libc::SIGTERM)] {
        let fd = new.get(number);
        assert!(is_over(&fd));
        assert!(parse::pidfd(&fdinfo(&fd)).unwrap().is_empty());
        // Linux 6.15 tells the status, older ones don't.
        if let Ok(seen) = pidfd::exit_status(fd.as_fd()) {
            assert_eq!(seen, status);
        }
    }
}
