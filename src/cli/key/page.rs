//! A recovery kit as a page: as text, as SVG with a QR code, and read back. Pure.

use crate::format::kit::LINE_WORDS;
use qrcode::{Color, EcLevel, QrCode};
use std::fmt::Write;
use zeroize::Zeroizing;

/// What stands on the page.
pub struct Page<'a> {
    /// Where the repository lies.
    pub address: &'a str,
    /// Its id, in hexadecimal digits.
    pub repository: &'a str,
    /// The key epoch that the words open.
    pub epoch: u16,
    /// The day it was made.
    pub made: &'a str,
    /// The lines of words, if they are to be printed.
    pub words: Option<&'a [String]>,
}

/// What is read of a page.
#[derive(Default)]
pub struct Read {
    /// The address, if it has one.
    pub address: Option<String>,
    /// The repository's id, if it has one.
    pub repository: Option<String>,
    /// Its words, in order; none where it has no secret.
    pub words: Zeroizing<Vec<String>>,
}

const WITH_WORDS: &str = "\
SECRET WORDS: whoever has them can read everything. Keep this page in a safe place.
";

const AFTER_WORDS: &str = "\
The last word of each line tells whether the line is right. Four letters of a word are enough.
";

const WITHOUT_WORDS: &str = "\
NO SECRET is on this page: the password or key file is needed, too.
";

const WITH_NFZ: &str = "\
HOW TO RESTORE WITH NFZ (install it, then)
    nfz restore ADDRESS ./out
";

const WITH_NFZ_AND_WORDS: &str = "\
It asks for the password. If that is lost, the words above set a new one (type them in):
    nfz key import-kit ADDRESS --add-password
";

const WITHOUT_NFZ: &str = "\
HOW TO RESTORE WITHOUT NFZ
Copy the whole directory of the repository to ./copy (sftp -r, rsync, cp -r). Then, with Python and
the files in spec/reference/ of nfz's source, which its README explains:
    python3 nfz_read.py ./copy restore latest ./out
";

const WITHOUT_NFZ_WITH_WORDS: &str = "\
It asks for the password. If that is lost, this sets a new one, in the copy:
    python3 nfz_kit.py ./copy kit.txt         (kit.txt: this page, or the words)
";

const PROVE: &str = "\
Prove that this page works, now and then:  nfz key import-kit ADDRESS
";

impl Page<'_> {
    /// The page as text.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(4096));
        text.push_str("NFZ RECOVERY KIT\n\n");
        self.write_facts(&mut text);
        let _ = writeln!(text, "made:       {}\n", self.made);
        text.push_str(if self.words.is_some() { WITH_WORDS } else { WITHOUT_WORDS });
        if self.words.is_some() {
            text.push('\n');
            self.write_words(&mut text, "   ");
            text.push('\n');
            text.push_str(AFTER_WORDS);
        }
        let with_words = |first: &str, more: &str| format!("\n{first}{}", self.words.map_or("", |_| more));
        text.push_str(&with_words(WITH_NFZ, WITH_NFZ_AND_WORDS).replace("ADDRESS", self.address));
        text.push_str(&with_words(WITHOUT_NFZ, WITHOUT_NFZ_WITH_WORDS));
        text.push('\n');
        text.push_str(&PROVE.replace("ADDRESS", self.address));
        text
    }

    /// What the QR code holds: the same facts and words, as [`read`] takes them.
    fn code(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(1024));
        self.write_facts(&mut text);
        self.write_words(&mut text, " ");
        text
    }

    fn write_facts(&self, text: &mut String) {
        let Self { address, repository, epoch, .. } = self;
        let _ = writeln!(text, "address:    {address}\nrepository: {repository}\nkey epoch:  {epoch}");
    }

    fn write_words(&self, text: &mut String, gap: &str) {
        for (line, words) in self.words.unwrap_or_default().iter().enumerate() {
            let _ = writeln!(text, "{}{gap}{words}", line + 1);
        }
    }

    /// The page as SVG, in the size of A4, with a QR code of its facts and words.
    ///
    /// # Errors
    /// Where they are too much for a QR code: the address is too long.
    pub fn svg(&self) -> Result<Zeroizing<String>, String> {
        let code = QrCode::with_error_correction_level(self.code().as_bytes(), EcLevel::M);
        let code = code.map_err(|error| format!("its QR code cannot be made: {error}"))?;
        let mut svg = Zeroizing::new(String::with_capacity(64 << 10));
        svg.push_str(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"210mm\" height=\"297mm\" viewBox=\"0 0 210 297\">\n\
             <rect width=\"210\" height=\"297\" fill=\"#fff\"/>\n\
             <g font-family=\"monospace\" font-size=\"3\" fill=\"#000\" xml:space=\"preserve\">\n",
        );
        let text = self.text();
        for (row, line) in text.lines().enumerate() {
            let y = TEXT_TOP + row as f32 * LINE_HEIGHT;
            let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"{y:.1}\">{}</text>", escaped(line).as_str());
        }
        svg.push_str("</g>\n");
        let top = TEXT_TOP + text.lines().count() as f32 * LINE_HEIGHT + QUIET;
        write_code(&mut svg, &code, top);
        svg.push_str("</svg>\n");
        Ok(svg)
    }
}

// Millimetres on the page.
const LEFT: f32 = 15.0;
const TEXT_TOP: f32 = 18.0;
const LINE_HEIGHT: f32 = 4.4;
const CODE_SIDE: f32 = 80.0;
/// White above the code, which readers ask for.
const QUIET: f32 = 2.0;

/// One square for each dark module.
fn write_code(svg: &mut String, code: &QrCode, top: f32) {
    let side = CODE_SIDE / code.width() as f32;
    let _ = write!(svg, "<path transform=\"translate({LEFT} {top:.1}) scale({side:.4})\" d=\"");
    for (at, _) in code.to_colors().iter().enumerate().filter(|(_, color)| **color == Color::Dark) {
        let _ = write!(svg, "M{} {}h1v1h-1z", at % code.width(), at / code.width());
    }
    svg.push_str("\"/>\n");
}

fn escaped(text: &str) -> Zeroizing<String> {
    let text = Zeroizing::new(text.replace('&', "&amp;"));
    let text = Zeroizing::new(text.replace('<', "&lt;"));
    Zeroizing::new(text.replace('>', "&gt;"))
}

/// Reads a page, as text or SVG, what its QR code says, or words alone.
#[must_use]
pub fn read(text: &str) -> Read {
    let text = if text.trim_start().starts_with("<svg") { without_tags(text) } else { Zeroizing::new(text.to_owned()) };
    let mut found = Read::default();
    for line in text.lines().map(str::trim) {
        let value = |name: &str| line.strip_prefix(name).map(|value| value.trim().to_owned());
        found.address = found.address.take().or_else(|| value("address:"));
        found.repository = found.repository.take().or_else(|| value("repository:"));
        found.words.extend(numbered(line));
    }
    // Nothing but words: numbers before the lines may be left out.
    if found.words.is_empty() && found.repository.is_none() {
        found.words.extend(text.split_whitespace().map(str::to_owned));
    }
    found
}

/// The words of a line that begins with its number.
fn numbered(line: &str) -> Vec<String> {
    let mut words = line.split_whitespace();
    let number = words.next().map(|number| number.trim_end_matches(['.', ':', ')']));
    let is_number = number.is_some_and(|number| number.len() == 1 && number.bytes().all(|byte| byte.is_ascii_digit()));
    let words: Vec<String> = words.map(str::to_owned).collect();
    if is_number && (1..=2 * LINE_WORDS).contains(&words.len()) { words } else { Vec::new() }
}

fn without_tags(svg: &str) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(svg.len()));
    let mut is_tag = false;
    for char in svg.chars() {
        match char {
            '<' => is_tag = true,
            '>' => is_tag = false,
            _ if is_tag => {}
            char => text.push(char),
        }
    }
    let text = Zeroizing::new(text.replace("&lt;", "<"));
    let text = Zeroizing::new(text.replace("&gt;", ">"));
    Zeroizing::new(text.replace("&amp;", "&"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::kit;
    use proptest::prelude::*;

    const ID: &str = "22222222222222222222222222222222";

    fn words() -> Vec<String> {
        kit::words(&[0x22; 16], 3, &Zeroizing::new([5; 32])).to_vec()
    }

    fn page<'a>(words: Option<&'a [String]>) -> Page<'a> {
        Page { address: "user@host:a & <b>", repository: ID, epoch: 3, made: "2026-11-22", words }
    }

    fn joined(words: &[String]) -> Vec<String> {
        words.iter().flat_map(|line| line.split(' ')).map(str::to_owned).collect()
    }

    #[test]
    fn what_is_printed_is_read_back_from_text_svg_and_qr_code() {
        let words = words();
        let page = page(Some(&words));
        for text in [page.text(), page.svg().unwrap(), page.code()] {
            let read = read(&text);
            assert_eq!((read.address.as_deref(), read.repository.as_deref()), (Some(page.address), Some(ID)));
            assert_eq!(*read.words, joined(&words));
        }
    }

    #[test]
    fn words_alone_are_enough() {
        let words = words();
        assert_eq!(*read(&words.join("\n")).words, joined(&words));
        let numbered: Vec<String> = words.iter().enumerate().map(|(at, line)| format!(" {}) {line}", at + 1)).collect();
        assert_eq!(*read(&numbered.join("\n\n")).words, joined(&words));
    }

    #[test]
    fn a_page_without_the_secret_has_no_word_of_it() {
        let text = page(None).text();
        let read = read(&text);
        assert!(read.words.is_empty() && read.repository.as_deref() == Some(ID));
        assert!(text.contains("NO SECRET") && !text.contains("nfz_kit"));
    }

    #[test]
    fn the_page_fits_on_paper() {
        let words = words();
        let text = page(Some(&words)).text();
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{}", *text);
        let height = TEXT_TOP + text.lines().count() as f32 * LINE_HEIGHT + QUIET + CODE_SIDE;
        assert!(height < 285.0, "{height}");
    }

    #[test]
    fn an_address_that_no_qr_code_holds_is_an_error() {
        let address = "x".repeat(5000);
        assert!(Page { address: &address, ..page(None) }.svg().is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,200}|<svg[<>&;a-z\\n]{0,60}") {
            let _ = read(&text);
        }
    }
}
