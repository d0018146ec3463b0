//! The task API: what its methods call, and how they answer.
//!
//! The state is behind one lock, and nobody waits with it. An answer that needs rtc, or the end of a process, is given
//! later by what follows that (shim.rs); a caller that goes away in the meantime changes nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use containerd_shim::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse,
    DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest, PauseRequest, PidsRequest, PidsResponse,
    ResizePtyRequest, ResumeRequest, ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse,
    StatsRequest, StatsResponse, UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim::{Task, TtrpcContext, TtrpcResult};

use crate::fault::Result;
use crate::logger::Logger;
use crate::reply::{self, Reply};
use crate::shim::Shim;
use crate::{control, lifecycle, pump, queries};

/// For how long the reader of what is left of an ended process's output may take nothing.
const DRAIN: Duration = Duration::from_secs(2);

/// The shim's state, and those that use it: the methods, and the reaper.
#[derive(Clone, Debug)]
pub(crate) struct Service(Arc<Mutex<Shim>>);

impl Service {
    pub(crate) fn new(shim: Shim) -> Self {
        Self(Arc::new(Mutex::new(shim)))
    }

    /// Never held across an `await`.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Shim> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now<T>(&self, method: impl FnOnce(&mut Shim) -> Result<T>) -> TtrpcResult<T> {
        Ok(method(&mut self.lock())?)
    }

    async fn later<T: Send>(&self, method: impl FnOnce(&mut Shim, Reply<T>) -> Result<()> + Send) -> TtrpcResult<T> {
        let (reply, answer) = reply::pair();
        method(&mut self.lock(), reply)?;
        Ok(answer.get().await?)
    }
}

#[async_trait]
impl Task for Service {
    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> TtrpcResult<StateResponse> {
        self.now(|shim| queries::state(shim, request))
    }

    async fn create(&self, _: &TtrpcContext, request: CreateTaskRequest) -> TtrpcResult<CreateTaskResponse> {
        self.later(|shim, reply| lifecycle::create(shim, request, reply)).await
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> TtrpcResult<StartResponse> {
        self.later(|shim, reply| lifecycle::start(shim, request, reply)).await
    }

    async fn delete(&self, _: &TtrpcContext, request: DeleteRequest) -> TtrpcResult<DeleteResponse> {
        // The client stops reading, or the shim ends, when it has its answer.
        let outputs = self.now(|shim| lifecycle::outputs(shim, &request))?;
        pump::drain(outputs, DRAIN).await;
        let (answer, logger) = self.later(|shim, reply| lifecycle::delete(shim, request, reply)).await?;
        if let Some(end) = logger.and_then(Logger::end) {
            // One that has panicked has ended, too.
            let _ = end.await;
        }
        Ok(answer)
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> TtrpcResult<PidsResponse> {
        self.now(|shim| queries::pids(shim, &request))
    }

    async fn pause(&self, _: &TtrpcContext, request: PauseRequest) -> TtrpcResult<Empty> {
        self.later(|shim, reply| control::pause(shim, request, reply)).await
    }

    async fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> TtrpcResult<Empty> {
        self.later(|shim, reply| control::resume(shim, request, reply)).await
    }

    async fn checkpoint(&self, _: &TtrpcContext, request: CheckpointTaskRequest) -> TtrpcResult<Empty> {
        self.later(|shim, reply| control::checkpoint(shim, request, reply)).await
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> TtrpcResult<Empty> {
        self.later(|shim, reply| control::kill(shim, request, reply)).await
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> TtrpcResult<Empty> {
        self.now(|shim| lifecycle::exec(shim, request))
    }

    async fn resize_pty(&self, _: &TtrpcContext, request: ResizePtyRequest) -> TtrpcResult<Empty> {
        self.now(|shim| control::resize(shim, request))
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> TtrpcResult<Empty> {
        self.now(|shim| control::close_io(shim, request))
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> TtrpcResult<Empty> {
        self.later(|shim, reply| control::update(shim, &request, reply)).await
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> TtrpcResult<WaitResponse> {
        self.later(|shim, reply| queries::wait(shim, request, reply)).await
    }

    async fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> TtrpcResult<StatsResponse> {
        self.now(|shim| queries::stats(shim, &request))
    }

    async fn connect(&self, _: &TtrpcContext, request: ConnectRequest) -> TtrpcResult<ConnectResponse> {
        self.now(|shim| Ok(queries::connect(shim, &request)))
    }

    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> TtrpcResult<Empty> {
        self.now(|shim| Ok(queries::shutdown(shim)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    use containerd_shim::ExitSignal;
    use containerd_shim::protos::ttrpc::{Code, Error, MessageHeader};

    use crate::publisher::Publisher;

    fn service() -> (Service, Arc<ExitSignal>) {
        let exit = Arc::new(ExitSignal::default());
        let publisher = Publisher::new("/no-such", "default".into());
        (Service::new(Shim::new("default".into(), publisher, exit.clone())), exit)
    }

    fn context() -> TtrpcContext {
        TtrpcContext { mh: MessageHeader::default(), metadata: HashMap::new(), timeout_nano: 0 }
    }

    fn code<T>(answer: TtrpcResult<T>) -> Code {
        match answer {
            Err(Error::RpcStatus(status)) => status.code(),
            _ => Code::OK,
        }
    }

    #[tokio::test]
    async fn what_there_isn_t_is_refused() {
        let (service, _) = service();
        let (context, id) = (&context(), || "web".to_owned());
        let codes = [
            code(service.state(context, StateRequest { id: id(), ..Default::default() }).await),
            code(service.start(context, StartRequest { id: id(), ..Default::default() }).await),
            code(service.delete(context, DeleteRequest { id: id(), ..Default::default() }).await),
            code(service.pids(context, PidsRequest { id: id(), ..Default::default() }).await),
            code(service.pause(context, PauseRequest { id: id(), ..Default::default() }).await),
            code(service.kill(context, KillRequest { id: id(), ..Default::default() }).await),
            code(service.close_io(context, CloseIORequest { id: id(), ..Default::default() }).await),
            code(service.wait(context, WaitRequest { id: id(), ..Default::default() }).await),
            code(service.stats(context, StatsRequest { id: id(), ..Default::default() }).await),
        ];
        assert_eq!(codes, [Code::NOT_FOUND; 9]);
        let exec = ExecProcessRequest { id: id(), exec_id: "../x".into(), ..Default::default() };
        assert_eq!(code(service.exec(context, exec).await), Code::INVALID_ARGUMENT);
    }

    #[tokio::test]
    async fn without_containers_there_is_the_shim_alone() {
        let (service, exit) = service();
        let answer =
            service.connect(&context(), ConnectRequest { id: "web".into(), ..Default::default() }).await.unwrap();
        assert_eq!((answer.shim_pid, answer.task_pid), (std::process::id(), 0));
        service.shutdown(&context(), ShutdownRequest::default()).await.unwrap();
        exit.wait().await;
    }
}
