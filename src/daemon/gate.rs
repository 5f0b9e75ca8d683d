//! A gate that threads wait at until there is something for them to work with.
//!
//! Threads are made while there is memory for their stacks; what they serve may come much later,
//! when there is none. Waiting and being let through take no memory.

use std::sync::{Condvar, Mutex, OnceLock, PoisonError};

/// Where threads wait for a value, once.
#[derive(Debug)]
pub struct Gate<T> {
    value: OnceLock<T>,
    closed: Mutex<bool>,
    changed: Condvar,
}

impl<T> Gate<T> {
    /// A gate that nobody gets through yet.
    pub const fn new() -> Self {
        Self { value: OnceLock::new(), closed: Mutex::new(false), changed: Condvar::new() }
    }

    /// Waits for the value; `None` if there will be none.
    pub fn wait(&self) -> Option<&T> {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(value) = self.value.get() {
                return Some(value);
            }
            if *closed {
                return None;
            }
            closed = self.changed.wait(closed).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets everybody through. Panics the second time.
    pub fn open(&self, value: T) -> &T {
        let guard = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(self.value.set(value).is_ok(), "a gate opens once");
        drop(guard);
        self.changed.notify_all();
        self.value.get().expect("just set")
    }

    /// Sends everybody home who is not through.
    pub fn close(&self) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// The value, if the gate was opened.
    pub fn get(&self) -> Option<&T> {
        self.value.get()
    }

    /// The value, once nobody can be at the gate any more.
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_threads_get_the_value_or_go_home() {
        let (gate, shut) = (Gate::new(), Gate::<u32>::new());
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..3).map(|_| scope.spawn(|| gate.wait().copied())).collect();
            let sent_home = scope.spawn(|| shut.wait().copied());
            assert_eq!(*gate.open(7), 7);
            shut.close();
            for thread in waiting {
                assert_eq!(thread.join().expect("no panic"), Some(7));
            }
            assert_eq!(sent_home.join().expect("no panic"), None);
        });
        gate.close();
        assert_eq!(
            (gate.wait(), gate.get()),
            (Some(&7), Some(&7)),
            "what is through stays through"
        );
        assert_eq!(gate.into_inner(), Some(7));
    }
}
