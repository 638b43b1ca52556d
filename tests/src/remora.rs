// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One `remora run`, put together for L1.

use std::path::Path;

use crate::session::in_l1;

/// The arguments of a run, and what its guest's kernel may complain about.
#[derive(Debug, Clone, Default)]
pub struct Remora {
    under: Vec<String>,
    args: Vec<String>,
    allowed: Vec<String>,
}

impl Remora {
    /// Any arguments at all: `remora ARGS…`.
    pub fn with(args: &[&str]) -> Self {
        Self::default().args(args)
    }

    /// `remora run` with this kernel (a file of this machine). XSAVE is hidden from the guest: emulated SVM does not
    /// intercept XSETBV, so L1's KVM would report a stale XSAVE size, over which Linux stumbles.
    pub fn boot(kernel: &Path) -> Self {
        Self::with(&["run", "--cpu", "host,-xsave", "--kernel", &in_l1(kernel)])
    }

    /// An initramfs (a file of this machine).
    pub fn initrd(self, file: &Path) -> Self {
        self.args(&["--initrd", &in_l1(file)])
    }

    /// The kernel's command line.
    pub fn cmdline(self, text: &str) -> Self {
        self.args(&["--cmdline", text])
    }

    /// Further arguments; paths are L1's.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Has this program with its arguments start Remora, whose own command line follows them.
    pub fn under<W: AsRef<str>>(mut self, words: &[W]) -> Self {
        self.under = words.iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// Lines of the guest's console that hold `text` are no failure.
    pub fn allow(mut self, text: &str) -> Self {
        self.allowed.push(text.to_owned());
        self
    }

    /// What [`Remora::allow`] collected.
    pub fn allowed(&self) -> Vec<String> {
        self.allowed.clone()
    }

    /// The shell command for the binary at `program`.
    pub fn command(&self, program: &str) -> String {
        let words = self.under.iter().map(String::as_str);
        let words = words.chain([program]);
        let words = words.chain(self.args.iter().map(String::as_str));
        words.map(quote).collect::<Vec<_>>().join(" ")
    }
}

/// `word` as one word of a shell command.
pub fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_quotes_every_word() {
        let remora = Remora::with(&["run"]).cmdline("console=ttyS0 it's");
        assert_eq!(
            remora.command("/x/remora"),
            r"'/x/remora' 'run' '--cmdline' 'console=ttyS0 it'\''s'"
        );
        assert_eq!(
            remora.under(&["nice", "-n 5"]).command("remora"),
            r"'nice' '-n 5' 'remora' 'run' '--cmdline' 'console=ttyS0 it'\''s'"
        );
    }
}
