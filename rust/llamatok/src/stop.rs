//! Calls that can be told to stop before they are done, from outside: by a signal, say.
//!
//! The thread of such a call, and those that help it, look now and then whether they are to go on, and otherwise
//! leave off where they are. What they have made by then is not the answer, and nobody gets to see it: the call as
//! a whole gives nothing. What outlives calls (caches, buffers) is always whole: loops leave off between units of
//! work, never within one, and tables that are made at first use are made without looking.
//!
//! Whether a call can be told to stop is known to its threads, not to the functions that it goes through. So
//! functions need no further argument, and short texts pay nothing.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the thread of a call asks.
const EVERY: Duration = Duration::from_millis(50);

/// How many short texts, or merges, may be done between two looks.
pub const ROUNDS: usize = 64;

/// How many ids may be copied or looked up between two looks.
pub const IDS: usize = 1 << 16;

thread_local! {
    static CALL: RefCell<Call> = const { RefCell::new(Call { ask: None, next: None, stopped: false, all: None }) };
}

/// What a thread knows of its call.
#[derive(Debug, Default)]
struct Call {
    /// Asks whether to stop; in the thread of the call only.
    ask: Option<fn() -> bool>,
    /// When to ask again.
    next: Option<Instant>,
    stopped: bool,
    /// The same for all threads, if there are several.
    all: Option<Arc<AtomicBool>>,
}

/// Runs `work`, which stops soon after `ask` has given `true`; then there is no result.
///
/// `ask` is called by this thread, every 50 ms or so, wherever in the crate the work happens to be. It may itself
/// use the crate. Work of less than 50 ms does not ask.
pub fn stoppable<T>(ask: fn() -> bool, work: impl FnOnce() -> T) -> Option<T> {
    let (result, call) = within(Call { ask: Some(ask), ..Call::default() }, work);
    (!call.stopped).then_some(result)
}

/// Whether to leave off, in a loop that looks every so many rounds; `round` counts from 0.
#[inline]
pub fn is_due(round: usize, every: usize) -> bool {
    round % every == every - 1 && is_asked()
}

/// How many rows of `width` cells may be filled between two looks.
pub fn rows(width: usize) -> usize {
    IDS / width.clamp(1, IDS)
}

/// Whether to leave off. Some dozens of nanoseconds: not for every round of a quick loop.
pub fn is_asked() -> bool {
    let ask = CALL.with_borrow_mut(|call| {
        call.stopped |= call.all.as_ref().is_some_and(|all| all.load(Ordering::Relaxed));
        let ask = call.ask.filter(|_| !call.stopped)?;
        let now = Instant::now();
        let next = *call.next.get_or_insert(now + EVERY);
        (now >= next).then_some(ask)
    });
    if let Some(ask) = ask {
        // Calls that `ask` makes are not this one.
        let stopped = within(Call::default(), ask).0;
        CALL.with_borrow_mut(|call| {
            call.next = Some(Instant::now() + EVERY);
            call.stopped = stopped;
            if let Some(all) = call.all.as_ref().filter(|_| stopped) {
                all.store(true, Ordering::Relaxed);
            }
        });
    }
    CALL.with_borrow(|call| call.stopped)
}

/// What the threads that help with this thread's call need to know.
#[derive(Debug, Clone)]
pub(crate) struct Shared(Option<Arc<AtomicBool>>);

/// Makes it.
pub(crate) fn share() -> Shared {
    CALL.with_borrow_mut(|call| {
        if call.ask.is_some() && call.all.is_none() {
            call.all = Some(Arc::new(AtomicBool::new(call.stopped)));
        }
        Shared(call.all.clone())
    })
}

impl Shared {
    /// Runs `work` in a thread that helps.
    pub(crate) fn help<T>(&self, work: impl FnOnce() -> T) -> T {
        within(Call { all: self.0.clone(), ..Call::default() }, work).0
    }
}

/// Runs `work` as part of `call`, and gives back what has become of that.
fn within<T>(call: Call, work: impl FnOnce() -> T) -> (T, Call) {
    /// Puts the former call back, after a panic, too.
    struct Former(Call);

    impl Drop for Former {
        fn drop(&mut self) {
            CALL.set(std::mem::take(&mut self.0));
        }
    }

    let former = Former(CALL.replace(call));
    let result = work();
    let call = CALL.take();
    drop(former);
    (result, call)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EncodeOptions, Tokenizer};

    fn always() -> bool {
        true
    }

    fn never() -> bool {
        false
    }

    fn until_asked() -> usize {
        (1..).find(|_| is_asked()).unwrap_or_default()
    }

    #[test]
    fn nobody_is_stopped_unasked() {
        assert!(!is_asked());
        assert_eq!(stoppable(never, || 5), Some(5));
        assert_eq!(stoppable(always, || 5), Some(5), "too short a work to ask");
    }

    #[test]
    fn work_stops_and_gives_nothing() {
        assert_eq!(stoppable(always, until_asked), None);
        assert!(!is_asked());
    }

    #[test]
    fn helpers_stop_with_the_call() {
        let stopped = stoppable(always, || {
            crate::batch::share(4, || {
                until_asked();
            });
        });
        assert_eq!(stopped, None);
    }

    #[test]
    fn asking_may_use_the_crate() {
        fn nested() -> bool {
            assert!(!is_asked());
            assert_eq!(stoppable(always, until_asked), None);
            true
        }
        assert_eq!(stoppable(nested, until_asked), None);
    }

    #[test]
    fn a_panic_ends_the_call() {
        let result = std::panic::catch_unwind(|| stoppable(always, || panic!("as it happens")));
        assert!(result.is_err());
        assert!(!is_asked());
    }

    #[test]
    fn a_tokenizer_that_was_stopped_is_as_before() {
        let data = include_bytes!("../../../python/llamatok/data/default.model");
        let tokenizer = Tokenizer::from_bytes(data, None).unwrap();
        let options = EncodeOptions::default();
        let encode = |text: &str| {
            let mut ids = Vec::new();
            tokenizer.encode_into(text.as_bytes(), &options, &mut ids).map(|()| ids).unwrap()
        };
        let expected = encode("words without end");
        let text = "words without end ".repeat(1 << 17);
        // However fast the machine is, this takes longer than what it takes to ask.
        let texts = vec![text.as_str(); 200];
        let short_texts = vec!["words without end"; 4 << 20];
        for (texts, threads) in [(&texts, Some(1)), (&texts, Some(3)), (&short_texts, Some(1))] {
            let stopped = stoppable(always, || tokenizer.encode_batch(texts, &options, threads));
            assert!(stopped.is_none());
            let stopped = stoppable(always, || tokenizer.count_batch(texts, &options, threads));
            assert!(stopped.is_none());
            assert_eq!(encode("words without end"), expected);
        }
        assert_eq!(tokenizer.decode(&encode(&text), false).unwrap(), text);
    }
}
