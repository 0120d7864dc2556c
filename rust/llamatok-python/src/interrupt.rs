//! Long calls that Ctrl-C ends: signals are handled by Python's main thread, which is asked to do so while the core
//! works.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicUsize, Ordering};

use llamatok::stop;
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

/// The `ident` of Python's main thread.
static MAIN: AtomicUsize = AtomicUsize::new(0);

/// `threading.get_ident`.
static GET_IDENT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

thread_local! {
    /// `threading.get_ident()`, or 0 before that was asked for.
    static IDENT: Cell<usize> = const { Cell::new(0) };
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

/// Whether this is the thread that gets signals. Runs no code of Python's: other threads would then have the
/// interpreter for a while, and it might end meanwhile.
fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    let Some(get_ident) = GET_IDENT.get(py) else { return Ok(false) };
    if IDENT.get() == 0 {
        IDENT.set(get_ident.call0(py)?.extract(py)?);
    }
    Ok(IDENT.get() == MAIN.load(Ordering::Relaxed))
}

/// Finds out which thread gets signals.
///
/// # Errors
/// Those of `threading` and `os`.
pub fn init(py: Python<'_>) -> PyResult<()> {
    let threading = py.import("threading")?;
    let main = threading.call_method0("main_thread")?.getattr("ident")?.extract()?;
    MAIN.store(main, Ordering::Relaxed);
    GET_IDENT.get_or_try_init(py, || PyResult::Ok(threading.getattr("get_ident")?.unbind()))?;
    if let Some(register_at_fork) = py.import("os")?.getattr_opt("register_at_fork")? {
        let hooks = PyDict::new(py);
        hooks.set_item("after_in_child", wrap_pyfunction!(become_main, py)?)?;
        register_at_fork.call((), Some(&hooks))?;
    }
    Ok(())
}

/// The thread that has forked is the main thread of the child.
#[pyfunction]
fn become_main(py: Python<'_>) -> PyResult<()> {
    if let Some(get_ident) = GET_IDENT.get(py) {
        MAIN.store(get_ident.call0(py)?.extract(py)?, Ordering::Relaxed);
    }
    Ok(())
}
