//! Network interfaces of a namespace, all set down at once.

use crate::error::{Context as _, Result};
use crate::netlink::{self, Message, field};
use std::os::fd::BorrowedFd;

/// Sets all interfaces of the namespace down, except the loopback interface.
///
/// # Errors
/// When the kernel refuses it.
pub fn set_down(namespace: BorrowedFd<'_>) -> Result<()> {
    const RTM_NEWLINK: u16 = 16;
    const RTM_GETLINK: u16 = 18;
    let mut route = netlink::open(libc::NETLINK_ROUTE, Some(namespace))?;
    let mut request = Message::default();
    request.begin(RTM_GETLINK, libc::NLM_F_DUMP as u16, route.sequence()).fixed(&[0; 16]);
    let mut links = Vec::new();
    route.dump(request.bytes(), &mut |body| {
        let flags = field::<4>(body, 8).map_or(0, u32::from_ne_bytes);
        if flags & (libc::IFF_UP | libc::IFF_LOOPBACK) as u32 == libc::IFF_UP as u32 {
            links.extend(field::<4>(body, 4));
        }
    })?;
    for index in links {
        // struct ifinfomsg: family and type (4), index, flags, which of them to change
        let up = (libc::IFF_UP as u32).to_ne_bytes();
        let fixed = [[0; 4], index, [0; 4], up].concat();
        let mut message = Message::default();
        message.begin(RTM_NEWLINK, libc::NLM_F_ACK as u16, route.sequence()).fixed(&fixed);
        route.apply(message.bytes(), 1).context(|| "set an interface down")?;
    }
    Ok(())
}
