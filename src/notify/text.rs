//! What a mail says: the same facts as the report, for somebody who is not looking at it.

use jiff::Timestamp;

use super::{
    alarms::{Lasting, News, shown},
    deliver::About,
    mail::Mail,
};

/// So many alarms are told in one mail; the others are counted.
const MOST: usize = 50;

impl Mail {
    /// One mail for all that has changed with a run; its subject names the gravest.
    pub(super) fn of_news(about: &About<'_>, news: &[(News, Lasting)]) -> Option<Self> {
        let (first, gravest) = gravest(news)?;
        let state = match first {
            News::New => "",
            News::Still => "still ",
            News::Well => "well again: ",
        };
        let more = match news.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        let named =
            if gravest.subject == gravest.scope { String::new() } else { format!("{}: ", gravest.subject) };
        let subject = format!("[handover] {}: {named}{state}{}{more}", gravest.scope, gravest.kind.word());
        let mut mail = Self::new(about, subject, body(about, news));
        mail.reminder = news.iter().all(|(news, _)| *news == News::Still);
        Some(mail)
    }
}

fn gravest(news: &[(News, Lasting)]) -> Option<(News, &Lasting)> {
    let mut gravest: Option<(News, &Lasting)> = None;
    for (news, lasting) in news {
        let is_graver = gravest.is_none_or(|(of, known)| {
            let (old, new) = (known.kind.exit(), lasting.kind.exit());
            of == *news && old != new && old.worst(new) == new
        });
        if is_graver {
            gravest = Some((*news, lasting));
        }
    }
    gravest
}

fn body(about: &About<'_>, news: &[(News, Lasting)]) -> String {
    let mut text = format!(
        "handover {} on {}, {}. Exit code {} ({}).\n",
        about.what,
        about.host,
        about.now.strftime("%Y-%m-%d %H:%M:%S UTC"),
        about.exit.code(),
        about.exit.name()
    );
    for (news, lasting) in news.iter().take(MOST) {
        text.push('\n');
        text.push_str(&paragraph(*news, lasting, about.now));
    }
    if news.len() > MOST {
        text.push_str(&format!("\nAnd {} more: see `handover {} status`.\n", news.len() - MOST, about.role));
    }
    text
}

fn paragraph(news: News, lasting: &Lasting, now: Timestamp) -> String {
    let head = match news {
        News::New => lasting.kind.word().to_owned(),
        News::Still => format!("still: {}", lasting.kind.word()),
        News::Well => format!("well again: {}", lasting.kind.word()),
    };
    let mut rows = vec![("source", lasting.scope.clone())];
    if lasting.subject != lasting.scope {
        rows.push(("of", lasting.subject.clone()));
    }
    rows.push(("step", lasting.kind.step().to_owned()));
    rows.extend(lasting.generation.iter().map(|id| ("generation", id.clone())));
    let found = if news == News::Well { "it was" } else { "found" };
    rows.extend(lasting.lines.iter().map(|line| (found, line.clone())));
    if news != News::New {
        let hours = now.duration_since(lasting.since).as_hours();
        rows.push(("since", format!("{} ({hours} hours)", lasting.since.strftime("%Y-%m-%d %H:%M UTC"))));
    }
    if news == News::Still && lasting.seen < now {
        rows.push(("last found", lasting.seen.strftime("%Y-%m-%d %H:%M UTC").to_string()));
    }
    if news != News::Well {
        rows.push(("safe", lasting.kind.safe().to_owned()));
        rows.extend(lasting.fix.iter().map(|fix| ("do next", shown(fix))));
    }
    let rows: String = rows.iter().map(|(name, value)| format!("  {name:<11} {value}\n")).collect();
    format!("{head}\n{rows}")
}
