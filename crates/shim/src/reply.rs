//! An answer that is given later than its question's handling ends.

use tokio::sync::oneshot;

use crate::fault::{Fault, Result};

/// Who waits for an answer.
#[derive(Debug)]
pub(crate) struct Reply<T>(oneshot::Sender<Result<T>>);

/// The answer to come.
#[derive(Debug)]
pub(crate) struct Answer<T>(oneshot::Receiver<Result<T>>);

/// Both ends.
pub(crate) fn pair<T>() -> (Reply<T>, Answer<T>) {
    let (sender, receiver) = oneshot::channel();
    (Reply(sender), Answer(receiver))
}

impl<T> Reply<T> {
    /// Who has gone needs no answer.
    pub(crate) fn send(self, answer: Result<T>) {
        let _ = self.0.send(answer);
    }
}

impl<T> Answer<T> {
    pub(crate) async fn get(self) -> Result<T> {
        self.0.await.unwrap_or_else(|_| Err(Fault::unknown("the shim has given up the call")))
    }
}
