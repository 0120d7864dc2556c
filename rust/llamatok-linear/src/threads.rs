//! Whose threads a product runs on.

use std::ffi::{c_uint, c_void};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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

/// Tasks, taken one after the other by whoever is free.
struct Queue<'a> {
    work: &'a (dyn Fn(usize) + Sync),
    tasks: usize,
    next: AtomicUsize,
    panicked: AtomicBool,
}

impl Threads {
    /// How many there are, at least 1.
    pub(crate) fn count(self) -> usize {
        let (Self::Own(count) | Self::OpenMp(_, count)) = self;
        count.max(1)
    }

    /// Runs `work(0)` to `work(tasks - 1)`, each once.
    pub(crate) fn run(self, tasks: usize, work: &(dyn Fn(usize) + Sync)) {
        let count = self.count().min(tasks);
        match self {
            _ if count <= 1 => (0..tasks).for_each(work),
            Self::Own(_) => pool::run(tasks, count, work),
            Self::OpenMp(OpenMp(parallel), _) => {
                let mut queue =
                    Queue { work, tasks, next: AtomicUsize::new(0), panicked: AtomicBool::new(false) };
                // SAFETY: it is `GOMP_parallel`, which is done with the queue when it returns.
                unsafe { parallel(drain, (&raw mut queue).cast(), count as c_uint, 0) };
                assert!(!queue.panicked.into_inner(), "a task panicked");
            }
        }
    }
}

extern "C" fn drain(queue: *mut c_void) {
    // SAFETY: `run` gave it, and waits; all threads share it.
    let queue = unsafe { &*queue.cast::<Queue<'_>>() };
    let all = || {
        while let Some(task) =
            Some(queue.next.fetch_add(1, Ordering::Relaxed)).filter(|&task| task < queue.tasks)
        {
            (queue.work)(task);
        }
    };
    // A panic must not cross into the other library.
    if catch_unwind(AssertUnwindSafe(all)).is_err() {
        queue.panicked.store(true, Ordering::Relaxed);
    }
}
