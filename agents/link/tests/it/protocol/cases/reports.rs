//! Reports: their numbers, and how long they are repeated.

use chiffon_schemas::{ReportBody, Verdict, digest};

use super::super::reconciler::Reconciler;
use super::word;

pub async fn reports_rise_from_started_over_the_log_to_the_end(mut play: Reconciler) {
    let order = play.lab.order("first", 1);
    let grant = play.order_and_grant(&order).await;
    let reports = play.reports_of(&order.key).await;
    let (mut log, mut chunks) = (String::new(), 0);
    for (report, seq) in reports.iter().zip(1..) {
        assert_eq!((report.seq, report.fence), (seq, grant.fence));
        match &report.body {
            ReportBody::Log { chunk, text } => {
                assert_eq!(*chunk, chunks);
                assert!(text.len() <= 64 * 1024);
                chunks += 1;
                log.push_str(text);
            }
            ReportBody::Started {} | ReportBody::Over(_) => assert!(seq == 1 || seq == reports.len() as u64),
        }
    }
    assert_eq!(word(&reports[0]), "started");
    let ReportBody::Over(outcome) = &reports.last().unwrap().body else { panic!("no end") };
    assert_eq!(outcome.verdict, Verdict::Succeeded, "{outcome:#?}\n{log}");
    assert!(chunks > 0);
    assert_eq!((&outcome.log.sha256, outcome.log.chunks), (&digest(log.as_bytes()), chunks));
    assert_eq!((outcome.log.bytes, outcome.log.incomplete), (log.len() as u64, false));
    assert_eq!(play.lab.starts("first"), 1);
}

pub async fn reports_are_sent_again_until_they_are_stored(mut play: Reconciler) {
    let order = play.lab.order("first", 1);
    play.order_and_grant(&order).await;
    let said = play.reports_of(&order.key).await;
    // Nothing is stored: all of it comes again, the same.
    assert_eq!(play.reports_of(&order.key).await, said);
    play.stored(&order.key, 1).await;
    play.order(&order).await;
    let rest = play.reports_of(&order.key).await;
    assert_eq!(rest[..], said[1..], "from the first that is not stored");
    play.stored(&order.key, said.last().unwrap().seq).await;
    // What was heard of before the next order is claimed was heard.
    let next = play.lab.order("second", 1);
    play.order(&next).await;
    play.claim(&next).await;
    play.kill();
    play.start();
    let (_, hello) = play.hello().await;
    assert!(hello.ended.is_empty(), "{hello:?}");
    assert_eq!(hello.settled.iter().map(|settled| &settled.key).collect::<Vec<_>>(), [&next.key]);
    assert_eq!(play.lab.starts("first"), 1);
}
