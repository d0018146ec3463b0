//! `linux.resources.blockIO`: the io controller.

use oci_spec::runtime::{LinuxBlockIo, LinuxThrottleDevice};

use super::setting::{Setting, invalid};
use crate::Result;

pub(super) fn plan(block: &LinuxBlockIo, plan: &mut Vec<Setting>) -> Result<()> {
    if let Some(weight) = block.weight().filter(|weight| *weight != 0) {
        let weight = checked(weight)?;
        let cost = format!("default {}", cost_weight(weight));
        plan.push(Setting::new("blockIO.weight", "io.bfq.weight", weight.to_string()).or("io.weight", cost));
    }
    for device in block.weight_device().iter().flatten() {
        let Some(weight) = device.weight().filter(|weight| *weight != 0) else { continue };
        let weight = checked(weight)?;
        let name = format!("{}:{}", device.major(), device.minor());
        let cost = format!("{name} {}", cost_weight(weight));
        plan.push(
            Setting::new("blockIO.weightDevice", "io.bfq.weight", format!("{name} {weight}")).or("io.weight", cost),
        );
    }
    let throttles = [
        ("blockIO.throttleReadBpsDevice", "rbps", block.throttle_read_bps_device()),
        ("blockIO.throttleWriteBpsDevice", "wbps", block.throttle_write_bps_device()),
        ("blockIO.throttleReadIOPSDevice", "riops", block.throttle_read_iops_device()),
        ("blockIO.throttleWriteIOPSDevice", "wiops", block.throttle_write_iops_device()),
    ];
    for (property, key, devices) in throttles {
        plan.extend(devices.iter().flatten().map(|device| Setting::new(property, "io.max", throttle(key, device))));
    }
    Ok(())
}

fn checked(weight: u16) -> Result<u64> {
    match weight {
        10..=1000 => Ok(weight.into()),
        _ => invalid(format!("blockIO.weight {weight} is not between 10 and 1000")),
    }
}

/// A line of io.max. The kernel refuses 0; on version 1 it took the limit away.
fn throttle(key: &str, device: &LinuxThrottleDevice) -> String {
    let rate = if device.rate() == 0 { "max".to_owned() } else { device.rate().to_string() };
    format!("{}:{} {key}={rate}", device.major(), device.minor())
}

/// A weight of 10 to 1000 on io.weight's scale of 1 to 10000.
fn cost_weight(weight: u64) -> u64 {
    1 + (weight - 10) * 9999 / 990
}
