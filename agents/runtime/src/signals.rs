//! Ctrl-C and SIGTERM: a person's wish to stop, said once or again.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// What a process that was left at once ends with.
const AT_ONCE: i32 = 1;

/// The signals that came, one after the other.
#[derive(Debug)]
pub struct Signals {
    told: watch::Receiver<u32>,
    heard: u32,
}

impl Signals {
    /// Listens from now on. The signal with the number `at_once` ends the process where it stands, also where all else
    /// hangs: what is lost by that is what a crash would cost.
    ///
    /// # Errors
    /// The system does not let it listen.
    pub fn listen(at_once: u32) -> std::io::Result<Self> {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (tell, told) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                tell.send_modify(|count| *count += 1);
                if *tell.borrow() >= at_once {
                    eprintln!("stopped at once");
                    std::process::exit(AT_ONCE);
                }
            }
        });
        Ok(Self { told, heard: 0 })
    }

    /// Waits for the next one.
    pub async fn recv(&mut self) {
        let heard = self.heard;
        if self.told.wait_for(|count| *count > heard).await.is_ok() {
            self.heard += 1;
        } else {
            // Only the end of the runtime ends the listener.
            std::future::pending().await
        }
    }
}
