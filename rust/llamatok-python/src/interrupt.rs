//! Long calls that Ctrl-C ends: signals are handled by Python's main thread, which is asked to do so while the core
//! works.

use std::cell::{Cell, RefCell};

use llamatok::stop;
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;

thread_local! {
    /// Whether this is known to be the main thread. It stays it, in the child of a fork, too.
    static IS_MAIN: Cell<bool> = const { Cell::new(false) };
    /// What a signal's handler has raised.
    static RAISED: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// Runs `work`, which ends soon after a signal's handler has raised something.
///
/// # Errors
/// What the handler has raised: `KeyboardInterrupt`, unless there is another one than Python's own.
pub fn interruptible<T>(py: Python<'_>, work: impl FnOnce() -> T) -> PyResult<T> {
    // Others get no signals, and need not wait for the interpreter in order to ask.
    if !is_main_thread(py)? {
        return Ok(work());
    }
    stop::stoppable(is_interrupted, work)
        .ok_or_else(|| RAISED.take().unwrap_or_else(|| PyKeyboardInterrupt::new_err(())))
}

/// The same with work that lets other threads have the interpreter.
///
/// # Errors
/// As [`interruptible`].
pub fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> PyResult<T> {
    interruptible(py, || py.detach(work))
}

/// Handles the signals that have come, now and then, in a loop that holds the interpreter.
#[derive(Default)]
pub struct Signals {
    done: usize,
}

impl Signals {
    /// Counts items of some nanoseconds each.
    ///
    /// # Errors
    /// What a handler has raised.
    #[inline]
    pub fn after(&mut self, py: Python<'_>, items: usize) -> PyResult<()> {
        const ITEMS: usize = 1 << 16;
        self.done += items;
        if self.done < ITEMS {
            return Ok(());
        }
        self.done = 0;
        py.check_signals()
    }
}

fn is_interrupted() -> bool {
    Python::attach(|py| match py.check_signals() {
        Ok(()) => false,
        Err(error) => {
            RAISED.set(Some(error));
            true
        }
    })
}

fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    if !IS_MAIN.get() {
        let threading = py.import("threading")?;
        let main = threading.call_method0("main_thread")?.getattr("ident")?;
        IS_MAIN.set(main.eq(threading.call_method0("get_ident")?)?);
    }
    Ok(IS_MAIN.get())
}
