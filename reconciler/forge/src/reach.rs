//! Which machines a name may stand for (S11). Who can change what a name stands for, for a moment, must not have us ask the
//! machine's own services, or those that hand out a cloud's credentials. An address that is written out in the configuration
//! is what a person wants, and is not judged.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Names that are the whole world's: they never stand for a machine of somebody's own network.
const PUBLIC: [&str; 1] = ["api.github.com"];

/// Services of clouds that hand out credentials to whoever asks, outside the link-local range where most are.
const METADATA: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254))];

/// Looks names up.
type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, std::io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// Looks names up as the system does, each time anew, and leaves out what they may not stand for.
pub(crate) struct Careful {
    lookup: Lookup,
    /// Who answers has to prove to be what the name says, so that a service of this machine gets nothing of use.
    certified: bool,
}

impl Careful {
    /// By the system's own means.
    pub fn new(certified: bool) -> Self {
        let lookup: Lookup =
            Arc::new(|name| Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) }));
        Self { lookup, certified }
    }

    #[cfg(test)]
    fn by(lookup: impl Fn() -> IpAddr + Clone + Send + Sync + 'static) -> Self {
        let lookup: Lookup = Arc::new(move |_| {
            let lookup = lookup.clone();
            Box::pin(async move { Ok(vec![SocketAddr::new(lookup(), 0)]) })
        });
        Self { lookup, certified: true }
    }
}

impl Resolve for Careful {
    fn resolve(&self, name: Name) -> Resolving {
        let (lookup, certified) = (Arc::clone(&self.lookup), self.certified);
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let found = lookup(name.clone()).await?;
            let kept: Vec<SocketAddr> =
                found.iter().copied().filter(|at| may_stand_for(&name, at.ip(), certified)).collect();
            match found.first() {
                Some(at) if kept.is_empty() => Err(format!(
                    "`{name}` stands for {}, which no forge has; if yours does, write that address into `forge.url`",
                    at.ip()
                )
                .into()),
                Some(_) | None => Ok(Box::new(kept.into_iter()) as Addrs),
            }
        })
    }
}

/// Whether a name may stand for an address, where who answers is `certified` or else believed.
fn may_stand_for(name: &str, ip: IpAddr, certified: bool) -> bool {
    let ip = ip.to_canonical();
    if METADATA.contains(&ip) || ip.is_unspecified() || ip.is_multicast() || is_link_local(ip) {
        return false;
    }
    if ip.is_loopback() {
        // A name without a dot is of this machine or its own network: what the system calls itself is one.
        return certified && !PUBLIC.contains(&name) || !name.contains('.') || name.ends_with(".localhost");
    }
    !PUBLIC.contains(&name) || !is_private(ip)
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        // The last is what carriers and tunnels use (RFC 6598).
        IpAddr::V4(ip) => ip.is_private() || (ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64),
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn s11_a_name_stands_for_no_service_of_this_machine_and_for_no_metadata() {
        for (name, ip, may) in [
            ("git.lab.example", "203.0.113.7", true),
            ("git.lab.example", "192.168.1.7", true),
            ("git.lab.example", "fd12::7", true),
            ("git.lab.example", "169.254.169.254", false),
            ("git.lab.example", "::ffff:169.254.169.254", false),
            ("git.lab.example", "fe80::1", false),
            ("git.lab.example", "fd00:ec2::254", false),
            ("git.lab.example", "100.100.100.200", false),
            ("git.lab.example", "127.0.0.1", false),
            ("git.lab.example", "::1", false),
            ("git.lab.example", "0.0.0.0", false),
            ("git.lab.example", "::", false),
            ("git.lab.example", "255.255.255.255", false),
            ("git.lab.example", "ff02::1", false),
            ("localhost", "127.0.0.1", true),
            ("forge.localhost", "::1", true),
            ("nas01", "127.0.1.1", true),
            ("api.github.com", "140.82.121.6", true),
            ("api.github.com", "10.0.0.5", false),
            ("api.github.com", "100.64.0.1", false),
            ("api.github.com", "fd12::7", false),
        ] {
            assert_eq!(may_stand_for(name, ip.parse().unwrap(), false), may, "{name} {ip}");
        }
        // A forge on this very machine by its full name.
        assert!(may_stand_for("git.lab.example", "127.0.1.1".parse().unwrap(), true));
        assert!(!may_stand_for("git.lab.example", "169.254.169.254".parse().unwrap(), true));
        assert!(!may_stand_for("api.github.com", "127.0.0.1".parse().unwrap(), true));
    }

    #[tokio::test]
    async fn s11_a_name_that_stands_for_something_else_all_at_once_is_not_followed() {
        let flipped = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&flipped);
        let careful = Careful::by(move || match seen.load(Ordering::Relaxed) {
            false => "192.168.1.7".parse().unwrap(),
            true => "169.254.169.254".parse().unwrap(),
        });
        let ask = || careful.resolve("git.lab.example".parse().unwrap());
        assert_eq!(ask().await.unwrap().count(), 1);
        flipped.store(true, Ordering::Relaxed);
        let Err(refused) = ask().await else { panic!("it is followed") };
        assert!(refused.to_string().contains("stands for 169.254.169.254, which no forge has"), "{refused}");
    }
}
