use super::*;
use rtcade::sim::{Node, Path, Simulation};

#[test]
fn eight_play_for_a_minute_at_5_percent_loss() {
    let ms = std::time::Duration::from_millis;
    let mut sim = Simulation::new(1, |_| Ok(Catch::default()));
    sim.set_paths(move || Path::new(ms(40)).with(&Node::Jitter(ms(20))).with(&Node::Loss { permille: 50 }));
    let bots: Vec<_> = (0..8).map(|n| sim.join("test", &format!("bot {n}"))).collect();
    sim.run_every(ms(33), ms(60_000), |sim| {
        for &bot in &bots {
            let seen = sim[bot].last_state::<<Catch as Game>::State>();
            sim.send(bot, &seen.map_or((500, 500), |(dot, ..)| dot)); // each bot points where it sees the dot
        }
    });
    let score: u32 = sim.game("test").unwrap().squares.values().map(|(.., score)| score).sum();
    assert!(score > 60, "the dot was caught {score} times");
    for bot in bots {
        let states = sim[bot].states::<<Catch as Game>::State>().len();
        assert!(states > 1_600, "{states} of some 1,800 states");
    }
}
