//! What an image needs of the machine it is restored on.

use crate::error::{Error, Kind, Result};
use rtc_sys::{procmem, regs};
use serde::{Deserialize, Serialize};

/// A machine, as far as programs can tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The architecture.
    pub arch: String,
    /// The kernel's release, for people.
    pub kernel: String,
    /// The size of a page in bytes.
    pub page_size: u64,
    /// The extended state that the kernel switches (XCR0 on x86).
    pub xfeatures: u64,
    /// The vDSO's length in bytes, its data included.
    pub vdso_len: u64,
    /// The vDSO's checksum.
    pub vdso_crc32: u32,
}

impl Machine {
    /// This machine.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub fn here() -> Result<Self> {
        let own = std::process::id() as i32;
        let maps = crate::proc::Proc(own).maps()?;
        let vdso = maps.iter().find(|m| m.name == "[vdso]");
        let mut code = vec![0; vdso.map_or(0, |m| m.end - m.start) as usize];
        if let Some(vdso) = vdso {
            procmem::read(own, vdso.start, &mut code)?;
        }
        let special = maps.iter().filter(|m| m.name == "[vdso]" || m.name.starts_with("[vvar"));
        Ok(Self {
            arch: std::env::consts::ARCH.to_owned(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            page_size: rustix::param::page_size() as u64,
            xfeatures: regs::xfeatures(),
            vdso_len: special.map(|m| m.end - m.start).sum(),
            vdso_crc32: crc32fast::hash(&code),
        })
    }

    /// Checks that an image made on `self` can run `here`.
    ///
    /// # Errors
    /// Names what is missing.
    pub fn check(&self, here: &Machine) -> Result<()> {
        let refuse = |why: String| Err(Error::new(Kind::Incompatible, why));
        if self.arch != here.arch || self.page_size != here.page_size {
            return refuse(format!("the image is for {} with pages of {} bytes", self.arch, self.page_size));
        }
        let missing = self.xfeatures & !here.xfeatures;
        if missing != 0 {
            return refuse(format!("this processor lacks features of the image's (XCR0 bits {missing:#x})"));
        }
        if (self.vdso_len, self.vdso_crc32) != (here.vdso_len, here.vdso_crc32) {
            return refuse(format!(
                "the image was made on kernel {}, whose vDSO isn't that of this kernel ({})",
                self.kernel, here.kernel
            ));
        }
        Ok(())
    }
}
