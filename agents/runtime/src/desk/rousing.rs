//! An agent that could not make itself heard for long goes on as another life.
//!
//! While it was asleep or cut off, its attempts may have been declared lost, and a person may have had them done elsewhere.
//! A grant that waited for it meanwhile must start nothing. It names the life that claimed: so that life ends here, and the
//! next one asks again.

use chiffon_schemas::{AgentMessage, Hello, Settled, Unreported};

use super::Desk;
use crate::Error;
use crate::journal::Stage;

/// An agent that was not heard for so many of its heartbeats can't know what was decided of it. The reconciler bears its
/// silence for longer than that.
const HEARTBEATS: u32 = 2;

impl Desk {
    /// Begins another life where this one was not heard for too long. What runs goes on and is the new life's; what was
    /// claimed or granted has to be claimed again.
    ///
    /// # Errors
    /// The journal can't be used any more.
    pub fn rouse(&mut self) -> Result<(), Error> {
        if !self.voice.was_unheard(self.settings.heartbeat * HEARTBEATS) {
            return Ok(());
        }
        self.settings.boot = crate::new_boot();
        self.voice.live_as(&self.settings.boot);
        self.to_start.clear();
        let (mut settled, mut ended) = (Vec::new(), Vec::new());
        for (key, record) in self.records() {
            match record.stage {
                Stage::Ordered => {}
                Stage::Claimed => settled.push(Settled { key, fence: None, started: false, clean: true }),
                Stage::Granted { fence, .. } => {
                    settled.push(Settled { key, fence: Some(fence), started: false, clean: true });
                }
                Stage::Started { fence } | Stage::Over { fence, .. } => ended.push(Unreported { key, fence }),
            }
        }
        tracing::warn!("not heard for long: what was claimed is claimed again");
        let (kind, ansible_core) = self.ability();
        let claimed: Vec<_> = settled.iter().filter(|one| one.fence.is_none()).map(|one| one.key.clone()).collect();
        let hello = Hello { kind, ansible_core, settled, ended };
        self.hello = Some(hello.clone());
        self.say(AgentMessage::Hello(hello));
        claimed.into_iter().for_each(|key| self.say(AgentMessage::Claim { key }));
        Ok(())
    }
}
