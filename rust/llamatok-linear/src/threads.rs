//! Whose threads a product runs on.

use std::ffi::{c_uint, c_void};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::pool;

/// Threads for a product, the calling one included; 0 is taken for 1.
#[derive(Debug, Clone, Copy)]
pub enum Threads {
    /// This many of this crate's own, which are started when they are first wanted, and kept.
    Own(usize),
    /// This many of an OpenMP runtime that others use, too: its waiting threads keep their cores busy for some
    /// milliseconds, and threads beside them would have to share.
    OpenMp(OpenMp, usize),
}

/// The OpenMP runtime of another library.
#[derive(Debug, Clone, Copy)]
pub struct OpenMp(Parallel);

/// `GOMP_parallel` of GCC's OpenMP runtime, which those of LLVM and Intel have, too: calls a function with some
/// data on this and on other threads, and waits for all of them. Number of threads; flags, 0.
pub type Parallel = unsafe extern "C" fn(extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint);

impl OpenMp {
    /// The runtime whose `GOMP_parallel` is given.
    ///
    /// # Safety
    /// It must be that function, and its library must never be unloaded.
    #[must_use]
    pub unsafe fn new(parallel: Parallel) -> Self {
        Self(parallel)
    }
}

/// Tasks that may run side by side.
#[derive(Clone, Copy)]
pub(crate) struct Phase<'a> {
    pub tasks: usize,
    pub work: &'a (dyn Fn(usize) + Sync),
}

/// The most phases in a row.
const MOST_PHASES: usize = 8;
/// Pauses after which a thread that waits for the last tasks of a phase sleeps instead: some tens of microseconds,
/// more than the last tasks take where no other program has the cores.
const MOST_PAUSES: usize = 1000;
/// How long it sleeps at a time.
const SLEEP: Duration = Duration::from_micros(20);

impl Threads {
    /// How many there are, at least 1.
    pub(crate) fn count(self) -> usize {
        let (Self::Own(count) | Self::OpenMp(_, count)) = self;
        count.max(1)
    }

    /// Runs every task of every phase once, those of a phase after all of the phase before, and with all that
    /// they wrote in sight.
    pub(crate) fn run(self, phases: &[Phase<'_>]) {
        let count = self.count().min(phases.iter().map(|phase| phase.tasks).max().unwrap_or(0));
        match self {
            _ if count <= 1 => phases.iter().for_each(|phase| (0..phase.tasks).for_each(phase.work)),
            Self::Own(_) => phases.iter().for_each(|phase| pool::run(phase.tasks, count, phase.work)),
            Self::OpenMp(OpenMp(parallel), _) => {
                let mut queue = Queue::new(phases);
                // SAFETY: it is `GOMP_parallel`, which is done with the queue when it returns.
                unsafe { parallel(drain, (&raw mut queue).cast(), count as c_uint, 0) };
                assert!(!queue.panicked.into_inner(), "a task panicked");
            }
        }
    }
}

/// Tasks, taken one after the other by whoever is free.
struct Queue<'a> {
    phases: &'a [Phase<'a>],
    next: [AtomicUsize; MOST_PHASES],
    done: [AtomicUsize; MOST_PHASES],
    panicked: AtomicBool,
}

impl<'a> Queue<'a> {
    fn new(phases: &'a [Phase<'a>]) -> Self {
        assert!(phases.len() <= MOST_PHASES);
        Self { phases, next: Default::default(), done: Default::default(), panicked: AtomicBool::new(false) }
    }

    /// A thread's share. Tasks are counted, not threads: there may be fewer of them than were asked for.
    fn drain(&self) {
        let last = self.phases.len().saturating_sub(1);
        for (number, phase) in self.phases.iter().enumerate() {
            let (next, done) = (&self.next[number], &self.done[number]);
            loop {
                let task = next.fetch_add(1, Ordering::Relaxed);
                if task >= phase.tasks {
                    break;
                }
                // A panic must not cross into the other library, nor let the others wait for ever.
                if catch_unwind(AssertUnwindSafe(|| (phase.work)(task))).is_err() {
                    self.panicked.store(true, Ordering::Relaxed);
                }
                done.fetch_add(1, Ordering::Release);
            }
            // For the last tasks of all, the runtime waits in its own way.
            let mut pauses = 0;
            while number < last && done.load(Ordering::Acquire) < phase.tasks {
                if pauses < MOST_PAUSES {
                    pauses += 1;
                    std::hint::spin_loop();
                } else {
                    // The thread that has the task may be waiting for this one's core, where yielding is not
                    // always enough to let it run.
                    std::thread::sleep(SLEEP);
                }
            }
        }
    }
}

extern "C" fn drain(queue: *mut c_void) {
    // SAFETY: `run` gave it, and waits; all threads share it.
    unsafe { &*queue.cast::<Queue<'_>>() }.drain();
}
