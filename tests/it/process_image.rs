//! One memory image of a process, continued several times as a snapshot is restored several
//! times. No program that does this is needed: a debugger's calls are enough.
//!
//! A process that waits is stopped for good. A copy is a fork of it which gets all of its
//! threads, with their registers, and an epoll set of its own; its memory is the image. Files
//! and connections are shared, so that copies have to run one after another, and what waits
//! with a time limit is interrupted. Of a copy the calls for random numbers are counted.

use nix::errno::Errno;
use nix::libc::{self, user_regs_struct};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

/// A process that has been stopped. Dropping it kills it.
pub(crate) struct Image {
    process: Pid,
    /// Asks for copies. All of a tracer's calls come from one thread.
    tracer: Option<(Sender<Sender<Copy>>, JoinHandle<()>)>,
}

/// A copy that runs. Dropping it kills it.
pub(crate) struct Copy {
    process: Pid,
    random_draws: Arc<AtomicUsize>,
    ended: Receiver<()>,
}

impl Image {
    /// Stops a process when all of its threads wait.
    pub(crate) fn take(process: u32) -> Self {
        let process = Pid::from_raw(process as i32);
        let (wanted, requests) = channel::<Sender<Copy>>();
        let tracer = spawn(move || {
            let original = Stopped::new(process);
            while let Ok(sender) = requests.recv() {
                original.run_copy(&sender);
            }
        });
        Self {
            process,
            tracer: Some((wanted, tracer)),
        }
    }

    /// Continues a copy. The one before has to be dropped.
    pub(crate) fn restore(&self) -> Copy {
        let (sender, copy) = channel();
        let (tracer, _) = self.tracer.as_ref().expect("there until dropped");
        tracer.send(sender).expect("the tracer runs");
        copy.recv().expect("a copy")
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // While it is stopped: when its tracer ends, it would go on.
        let _ = kill(self.process, Signal::SIGKILL);
        let (requests, tracer) = self.tracer.take().expect("there until dropped");
        drop(requests);
        let _ = tracer.join();
    }
}

impl Copy {
    /// How often it has asked the system for random numbers.
    pub(crate) fn random_draws(&self) -> usize {
        self.random_draws.load(Ordering::SeqCst)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = kill(self.process, Signal::SIGKILL);
        let _ = self.ended.recv_timeout(Duration::from_mins(1));
    }
}

/// The registers of each thread of a stopped process, the first one's first.
struct Stopped {
    threads: Vec<(Pid, user_regs_struct)>,
}

impl Stopped {
    fn new(process: Pid) -> Self {
        let tasks = format!("/proc/{process}/task");
        let threads = || {
            let tasks = fs::read_dir(&tasks).expect("its threads");
            let tasks = tasks.map(|task| task.expect("a thread").file_name());
            let mut threads: Vec<i32> = tasks
                .filter_map(|task| task.to_str()?.parse().ok())
                .collect();
            threads.sort_unstable_by_key(|&thread| (thread != process.as_raw(), thread));
            threads
        };
        let waits = |thread: &i32| {
            let stat = fs::read_to_string(format!("{tasks}/{thread}/stat")).expect("its state");
            stat.rsplit(')')
                .next()
                .is_some_and(|rest| rest.trim_start().starts_with('S'))
        };
        let patience = Instant::now() + Duration::from_mins(1);
        while !threads().iter().all(waits) {
            assert!(Instant::now() < patience, "{process} never waits");
            sleep(Duration::from_millis(1));
        }
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_EXITKILL;
        let threads = threads().into_iter().map(|thread| {
            let thread = Pid::from_raw(thread);
            ptrace::seize(thread, options).expect("tracing is permitted");
            ptrace::interrupt(thread).expect("it runs");
            stopped(thread);
            (thread, ptrace::getregs(thread).expect("it is stopped"))
        });
        Self {
            threads: threads.collect(),
        }
    }

    /// Makes a copy, hands it out, and lets it run until it ends.
    fn run_copy(&self, sender: &Sender<Copy>) {
        let (original, registers) = self.threads[0];
        let (_, fork) = call(original, &registers, libc::SYS_fork, [0; 6]);
        let copy = fork.expect("a fork");
        own_epoll_sets(copy, &registers);
        let mut copies = vec![copy];
        let flags = libc::CLONE_VM
            | libc::CLONE_FS
            | libc::CLONE_FILES
            | libc::CLONE_SIGHAND
            | libc::CLONE_THREAD
            | libc::CLONE_SYSVSEM
            | libc::CLONE_SETTLS;
        for (_, thread) in &self.threads[1..] {
            let arguments = [flags as u64, thread.rsp, 0, 0, thread.fs_base, 0];
            let (_, clone) = call(copy, &registers, libc::SYS_clone, arguments);
            copies.push(clone.expect("a thread"));
        }
        for (&copy, (_, registers)) in copies.iter().zip(&self.threads) {
            ptrace::setregs(copy, resumed(*registers)).expect("it is stopped");
        }
        let random_draws = Arc::<AtomicUsize>::default();
        let (ended, receiver) = channel();
        let handed_out = sender.send(Copy {
            process: copy,
            random_draws: Arc::clone(&random_draws),
            ended: receiver,
        });
        handed_out.expect("somebody waits for it");
        for &copy in &copies {
            ptrace::syscall(copy, None).expect("it is stopped");
        }
        trace(copy, &random_draws);
        let _ = ended.send(());
    }
}

/// Lets all threads of a process run until it has ended, and counts what they draw.
fn trace(process: Pid, random_draws: &AtomicUsize) {
    // Of this thread's tracees only: the children of other tests are theirs.
    let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
    loop {
        let (thread, signal) = match waitpid(Pid::from_raw(-1), Some(flags)) {
            Ok(WaitStatus::PtraceSyscall(thread)) => {
                // At its entry a call has no result yet.
                let draws = ptrace::getregs(thread).is_ok_and(|registers| {
                    registers.orig_rax == libc::SYS_getrandom as u64
                        && registers.rax as i64 == -i64::from(libc::ENOSYS)
                });
                random_draws.fetch_add(usize::from(draws), Ordering::SeqCst);
                (thread, None)
            }
            Ok(WaitStatus::PtraceEvent(thread, ..)) => (thread, None),
            Ok(WaitStatus::Stopped(thread, signal)) => (thread, Some(signal)),
            Ok(WaitStatus::Exited(thread, _) | WaitStatus::Signaled(thread, ..)) => {
                if thread == process {
                    return;
                }
                continue;
            }
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(_) => return,
        };
        // One that has been killed meanwhile is reported next.
        let _ = ptrace::syscall(thread, signal);
    }
}

/// Waits until a thread that was interrupted, or has just begun, is stopped.
fn stopped(thread: Pid) {
    let status = waitpid(thread, Some(WaitPidFlag::__WALL)).expect("it is traced");
    let WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_STOP) = status else {
        panic!("{status:?}");
    };
}

/// Has a stopped thread make a system call: its result, and the process or thread that it
/// made, which is stopped.
fn call(
    thread: Pid,
    base: &user_regs_struct,
    number: i64,
    arguments: [u64; 6],
) -> (i64, Option<Pid>) {
    const SYSCALL: i64 = 0x050f;
    // What it waits in was such an instruction.
    let instruction = base.rip - 2;
    let found = ptrace::read(thread, instruction as *mut _).expect("its code");
    assert_eq!(found & 0xffff, SYSCALL, "it waits in a system call");
    let [rdi, rsi, rdx, r10, r8, r9] = arguments;
    let registers = user_regs_struct {
        rip: instruction,
        rax: number as u64,
        // Nothing is to be begun again.
        orig_rax: u64::MAX,
        rdi,
        rsi,
        rdx,
        r10,
        r8,
        r9,
        ..*base
    };
    ptrace::setregs(thread, registers).expect("it is stopped");
    let mut made = None;
    let mut entered = false;
    loop {
        ptrace::syscall(thread, None).expect("it is stopped");
        match waitpid(thread, Some(WaitPidFlag::__WALL)).expect("it is traced") {
            WaitStatus::PtraceSyscall(_) if entered => break,
            WaitStatus::PtraceSyscall(_) => entered = true,
            WaitStatus::PtraceEvent(..) => {
                let child = ptrace::getevent(thread).expect("an event");
                let child = Pid::from_raw(child as i32);
                stopped(child);
                made = Some(child);
            }
            // The copy before has ended; nobody waits for that.
            WaitStatus::Stopped(_, Signal::SIGCHLD) => {}
            other => panic!("{other:?}"),
        }
    }
    let result = ptrace::getregs(thread).expect("it is stopped").rax as i64;
    (result, made)
}

/// How a thread goes on: what it waited in begins again, or was interrupted if it has a limit.
fn resumed(registers: user_regs_struct) -> user_regs_struct {
    const RESTART: [i64; 3] = [-512, -513, -514];
    const RESTART_WITH_LIMIT: i64 = -516;
    let is_in_call = registers.orig_rax != u64::MAX;
    let (rip, rax) = match registers.rax as i64 {
        _ if !is_in_call => (registers.rip, registers.rax),
        code if RESTART.contains(&code) => (registers.rip - 2, registers.orig_rax),
        RESTART_WITH_LIMIT => (registers.rip, -i64::from(libc::EINTR) as u64),
        _ => (registers.rip, registers.rax),
    };
    user_regs_struct {
        rip,
        rax,
        orig_rax: u64::MAX,
        ..registers
    }
}

/// Compares files, in `kcmp`.
const KCMP_FILE: u64 = 0;

/// Replaces each epoll set of a fork, which it shares, with one of the same entries.
fn own_epoll_sets(copy: Pid, base: &user_regs_struct) {
    let call = |number, arguments| call(copy, base, number, arguments).0;
    let mut sets: Vec<u64> = Vec::new();
    let mut duplicates = Vec::new();
    for entry in fs::read_dir(format!("/proc/{copy}/fd")).expect("its files") {
        let path = entry.expect("a file").path();
        if !fs::read_link(&path).is_ok_and(|target| target == Path::new("anon_inode:[eventpoll]")) {
            continue;
        }
        let fd = path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        let fd: u64 = fd.expect("a number");
        let id = copy.as_raw() as u64;
        let is_same = |&&set: &&u64| call(libc::SYS_kcmp, [id, id, KCMP_FILE, set, fd, 0]) == 0;
        match sets.iter().find(is_same) {
            Some(&set) => duplicates.push((set, fd)),
            None => sets.push(fd),
        }
    }
    for &fd in &sets {
        own_epoll_set(copy, base, fd);
    }
    for (set, fd) in duplicates {
        call(libc::SYS_dup3, [set, fd, libc::O_CLOEXEC as u64, 0, 0, 0]);
    }
}

fn own_epoll_set(copy: Pid, base: &user_regs_struct, fd: u64) {
    let call = |number, arguments| {
        let (result, _) = call(copy, base, number, arguments);
        assert!(result >= 0, "system call {number}: {result}");
        result as u64
    };
    let entries = fs::read_to_string(format!("/proc/{copy}/fdinfo/{fd}")).expect("its entries");
    let new = call(libc::SYS_epoll_create1, [0; 6]);
    call(libc::SYS_dup3, [new, fd, libc::O_CLOEXEC as u64, 0, 0, 0]);
    call(libc::SYS_close, [new, 0, 0, 0, 0, 0]);
    // `tfd:        5 events: 80002019 data: 7f0000000001 pos:0 ino:1 sdev:8`
    for line in entries.lines().filter(|line| line.starts_with("tfd:")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let hex = |place: usize| u64::from_str_radix(words[place], 16).expect("a number");
        let (target, events, data) = (words[1].parse().expect("a file"), hex(3), hex(5));
        // A packed `epoll_event`, below what the thread may use of its stack.
        let address = base.rsp - 512;
        let low = events | (data << 32);
        for (place, word) in [(0, low), (8, data >> 32)] {
            let address = (address + place) as *mut _;
            ptrace::write(copy, address, word as i64).expect("its stack");
        }
        let add = libc::EPOLL_CTL_ADD as u64;
        call(libc::SYS_epoll_ctl, [fd, add, target, address, 0, 0]);
    }
}
