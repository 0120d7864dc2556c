//! Threads that wait for the parts of a product.
//!
//! Products follow each other by some microseconds, less than it takes to wake a thread. A helper therefore
//! looks for the next one for a while before it sleeps. Whoever asks for a product takes part in it, and ends it
//! alone where no helper comes in time.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a helper looks for work before it sleeps.
const PATIENCE: Duration = Duration::from_micros(500);
/// Pauses of the processor between two looks.
const PAUSES: usize = 4;
/// Pauses after which one who waits for a helper lets others have the core.
const MOST_WAITS: usize = 1000;
/// The most helpers there will ever be.
const MOST: usize = 255;

/// Runs `work(0)` to `work(tasks - 1)`, each once, on this thread and up to `threads - 1` others.
///
/// Where another thread has the helpers just now, this one works alone.
pub fn run(tasks: usize, threads: usize, work: &(dyn Fn(usize) + Sync)) {
    let helpers = threads.min(tasks).saturating_sub(1).min(MOST);
    if helpers == 0 {
        (0..tasks).for_each(work);
        return;
    }
    // Held while the helpers work for this thread, and perhaps for ever in a process that was forked then.
    let Ok(mut current) = CURRENT.try_lock() else {
        (0..tasks).for_each(work);
        return;
    };
    let process = std::process::id();
    let pool = match *current {
        Some((owner, pool)) if owner == process => pool,
        _ => current.insert((process, Box::leak(Box::new(Pool::default())))).1,
    };
    pool.run(tasks, helpers, work);
}

/// The pool of this process, or of the one from which it was forked, whose threads it does not have.
static CURRENT: Mutex<Option<(u32, &'static Pool)>> = Mutex::new(None);

#[derive(Default)]
struct Pool {
    /// Helpers that were started.
    started: AtomicUsize,
    /// How many jobs there were: changes, with the board locked, when there is a new one.
    number: AtomicUsize,
    board: Mutex<Board>,
    wake: Condvar,
}

#[derive(Default)]
struct Board {
    job: Option<Job>,
    /// Helpers that have lost patience.
    sleepers: usize,
}

/// What helpers are to do; it is on the board only while its owner is in [`Pool::run`].
struct Job {
    shared: *const Shared<'static>,
    /// Helpers that may still come.
    wanted: usize,
}

// SAFETY: `Shared` may be used from several threads, and outlives the job.
unsafe impl Send for Job {}

struct Shared<'a> {
    work: &'a (dyn Fn(usize) + Sync),
    tasks: usize,
    next: AtomicUsize,
    /// Helpers that are at work.
    inside: AtomicUsize,
    panicked: AtomicBool,
}

impl Shared<'_> {
    fn drain(&self) {
        loop {
            let task = self.next.fetch_add(1, Ordering::Relaxed);
            if task >= self.tasks {
                return;
            }
            (self.work)(task);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    fn run(&'static self, tasks: usize, helpers: usize, work: &(dyn Fn(usize) + Sync)) {
        while self.started.load(Ordering::Relaxed) < helpers {
            let builder = std::thread::Builder::new().name("llamatok-linear".into());
            // Where the system gives no more threads, the others do the work.
            if builder.spawn(|| self.help()).is_err() {
                break;
            }
            self.started.fetch_add(1, Ordering::Relaxed);
        }
        let shared = Shared {
            work,
            tasks,
            next: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
        };
        // Takes the job back and waits for those who are at it, also where `work` panics here.
        let withdrawal = Withdrawal { pool: self, shared: &shared };
        let mut board = lock(&self.board);
        let lasting = (&raw const shared).cast::<Shared<'static>>();
        board.job = Some(Job { shared: lasting, wanted: helpers });
        self.number.fetch_add(1, Ordering::Release);
        let asleep = board.sleepers > 0;
        drop(board);
        if asleep {
            self.wake.notify_all();
        }
        shared.drain();
        drop(withdrawal);
        assert!(!shared.panicked.load(Ordering::Relaxed), "a helper panicked");
    }

    /// What a helper does, for ever.
    fn help(&self) {
        let mut seen = 0;
        loop {
            let began = Instant::now();
            while self.number.load(Ordering::Acquire) == seen && began.elapsed() < PATIENCE {
                (0..PAUSES).for_each(|_| std::hint::spin_loop());
            }
            let mut board = lock(&self.board);
            while self.number.load(Ordering::Acquire) == seen {
                board.sleepers += 1;
                board = self.wake.wait(board).unwrap_or_else(PoisonError::into_inner);
                board.sleepers -= 1;
            }
            seen = self.number.load(Ordering::Acquire);
            let Some(job) = board.job.as_mut().filter(|job| job.wanted > 0) else { continue };
            job.wanted -= 1;
            // SAFETY: the owner takes the job off the board under this lock before it lets go of what the
            // job points to, and then waits until `inside` is 0.
            let shared = unsafe { &*job.shared };
            shared.inside.fetch_add(1, Ordering::Relaxed);
            drop(board);
            if catch_unwind(AssertUnwindSafe(|| shared.drain())).is_err() {
                shared.panicked.store(true, Ordering::Relaxed);
            }
            shared.inside.fetch_sub(1, Ordering::Release);
        }
    }
}

struct Withdrawal<'a> {
    pool: &'a Pool,
    shared: &'a Shared<'a>,
}

impl Drop for Withdrawal<'_> {
    fn drop(&mut self) {
        lock(&self.pool.board).job = None;
        let mut waited = 0;
        while self.shared.inside.load(Ordering::Acquire) > 0 {
            // On a busy machine the helper may have lost its core.
            if waited < MOST_WAITS {
                waited += 1;
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }
}
