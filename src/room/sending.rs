//! What a game sends to its players.

use super::{Context, Output};
use crate::game::{Game, Lane, PlayerId, SendError, Target};
use crate::limits;
use crate::wire::frame::Kind;
use crate::wire::msgpack;

impl<G: Game> Context<G> {
    /// Sends a state to every player, on the unreliable lane: only the newest counts.
    ///
    /// # Errors
    /// - Encoded, the state exceeds 16 KiB ([`limits::STATE_BYTES`]).
    /// - It is nested deeper than 16 levels ([`limits::MSGPACK_DEPTH`]).
    /// - It contains an integer beyond ±2⁵³, or a map with keys other than strings and integers, which JavaScript
    ///   cannot represent.
    ///
    /// On an error nothing is sent. The room counts such messages ([`Room::unsent`](super::Room::unsent)) and the
    /// server logs them, so a game may ignore the error.
    ///
    /// The server sends a state as its difference from an earlier one that the player has received, or deflated. What
    /// travels has at most 4,376 bytes ([`limits::UNRELIABLE_BODY_BYTES`]). A state that needs more does not reach the
    /// player; the server logs and counts it ([`oversized_states`](crate::server::Counters::oversized_states)). It is
    /// no error for the game, which would otherwise depend on what the network has delivered.
    pub fn state(&mut self, state: &G::State) -> Result<(), SendError> {
        self.send(Target::All, Kind::State, state)
    }

    /// Sends a state to one player, on the unreliable lane.
    ///
    /// # Errors
    /// As for [`Context::state`].
    pub fn state_to(&mut self, player: PlayerId, state: &G::State) -> Result<(), SendError> {
        self.send(Target::One(player), Kind::State, state)
    }

    /// Sends each player a state of their own, on the unreliable lane: for games in which players don't see everything,
    /// as in fog of war, and for worlds of which each sees a part. `state` is called for each player of the room, by
    /// number.
    ///
    /// Each state is encoded for itself, and its difference from the player's last ones too. Of players with equal
    /// states, such as those of a team, that difference is computed once; if all are equal, this is [`Context::state`].
    /// With 50 players and states of 200 bytes, a tick of a player takes 5.2 times the instructions of a state for all,
    /// and 2.7 times in two teams (`benches/instructions.sh`).
    ///
    /// # Errors
    /// As for [`Context::state`], the last error if there are several. The players whose states can be encoded get
    /// them.
    pub fn state_for_each(&mut self, mut state: impl FnMut(PlayerId) -> G::State) -> Result<(), SendError> {
        let players: Vec<PlayerId> = self.players.keys().copied().collect();
        let mut bodies = Vec::with_capacity(players.len());
        let mut sent = Ok(());
        for &player in &players {
            match self.encode(Kind::State, &state(player)) {
                Ok(body) => bodies.push((player, body)),
                Err(error) => sent = Err(error),
            }
        }
        self.push_states(bodies);
        sent
    }

    /// Sends an event on the given lane.
    ///
    /// # Errors
    /// As for [`Context::state`], except that an event may have 4 KiB on the unreliable lane ([`limits::EVENT_BYTES`])
    /// and 1 MiB on the reliable one ([`limits::RELIABLE_EVENT_BYTES`]).
    pub fn event(&mut self, target: Target, event: &G::Event, lane: Lane) -> Result<(), SendError> {
        let kind = match lane {
            Lane::Unreliable => Kind::Event,
            Lane::Reliable => Kind::ReliableEvent,
        };
        self.send(target, kind, event)
    }

    /// Sends a state or event that is already encoded.
    pub(crate) fn send_encoded(&mut self, to: Target, kind: Kind, value: &[u8]) {
        let body = msgpack::prefix_tick(self.tick, value);
        self.outputs.push_back(Output::Body { to, kind, body });
    }

    /// Sends each of these players a state that is already encoded.
    #[cfg(feature = "script")]
    pub(crate) fn send_encoded_states(&mut self, states: Vec<(PlayerId, Vec<u8>)>) {
        let body = |(player, value): (PlayerId, Vec<u8>)| (player, msgpack::prefix_tick(self.tick, &value));
        let bodies = states.into_iter().map(body).collect();
        self.push_states(bodies);
    }

    /// Counts a message that was not sent.
    #[cfg(feature = "script")]
    pub(crate) fn note_unsent(&mut self, error: SendError) {
        self.unsent += 1;
        self.last_unsent = Some(error);
    }

    fn push_states(&mut self, mut bodies: Vec<(PlayerId, Vec<u8>)>) {
        // The server notices equal states that follow one another.
        bodies.sort_by(|(_, one), (_, other)| one.cmp(other));
        let is_shared = bodies.len() == self.players.len() && bodies.windows(2).all(|pair| pair[0].1 == pair[1].1);
        if is_shared && let Some((_, body)) = bodies.pop() {
            self.outputs.push_back(Output::Body { to: Target::All, kind: Kind::State, body });
            return;
        }
        let each = |(player, body)| Output::Body { to: Target::One(player), kind: Kind::State, body };
        self.outputs.extend(bodies.into_iter().map(each));
    }

    fn send(&mut self, to: Target, kind: Kind, value: &impl serde::Serialize) -> Result<(), SendError> {
        let body = self.encode(kind, value)?;
        self.outputs.push_back(Output::Body { to, kind, body });
        Ok(())
    }

    fn encode(&mut self, kind: Kind, value: &impl serde::Serialize) -> Result<Vec<u8>, SendError> {
        let limit = match kind {
            Kind::State => limits::STATE_BYTES,
            _ if kind.is_reliable() => limits::RELIABLE_EVENT_BYTES,
            _ => limits::EVENT_BYTES,
        };
        let mut body = std::mem::take(&mut self.spare_body);
        match msgpack::encode_at_tick(self.tick, value, limit, &mut body) {
            Ok(()) => Ok(body),
            Err(error) => {
                self.unsent += 1;
                self.last_unsent = Some(error.clone());
                Err(error)
            }
        }
    }
}
