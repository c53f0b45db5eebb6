// Draws the arena with Phaser 4. The net is in `shared/arena.ts`: this file asks it for each frame what to draw.

import * as Phaser from "phaser";
import { type Arena, type Disc, type Effect, type Frame, type Input, actorsOf, colorOf } from "../../shared/arena";
import { createControls } from "../../shared/controls";
import { createHud } from "../../shared/hud";

/** Units of the arena to a pixel of the world. */
const UNIT = 10;
/** On a small screen the camera follows the own disc instead of showing everything. */
const LEAST_ZOOM = 0.62;
const MARGIN = 28;
const GOLD = 0xffd24a;
const GREEN = 0x5ff0a8;
const FONT = "system-ui, sans-serif";

/** Phaser draws in pixels of the display. */
const ratio = Math.min(devicePixelRatio || 1, 2);

const phaserColorOf = (id: number) => {
  const { hue, saturation, lightness } = colorOf(id);
  return Phaser.Display.Color.HSLToColor(hue / 360, saturation, lightness).color;
};

interface Figure {
  readonly body: Phaser.GameObjects.Container;
  readonly glow: Phaser.GameObjects.Image;
  readonly shield: Phaser.GameObjects.Arc;
  readonly score: Phaser.GameObjects.Text;
  readonly name: Phaser.GameObjects.Text;
  readonly crown: Phaser.GameObjects.Image;
  readonly trail: Phaser.GameObjects.Particles.ParticleEmitter;
}

class ArenaScene extends Phaser.Scene {
  private readonly figures = new Map<number, Figure>();
  private readonly gems: Phaser.GameObjects.Image[] = [];
  private sparks!: Phaser.GameObjects.Particles.ParticleEmitter;

  constructor(
    private readonly arena: Arena,
    private readonly read: () => Input,
    private readonly onFrame: (frame: Frame) => void,
  ) {
    super("arena");
  }

  create(): void {
    const width = this.arena.rules.width / UNIT;
    const height = this.arena.rules.height / UNIT;
    paintTextures(this.textures, width, height);
    this.add.image(width / 2, height / 2, "floor");
    this.sparks = this.add.particles(0, 0, "glow", {
      emitting: false,
      lifespan: 600,
      speed: { min: 60, max: 320 },
      scale: { start: 0.22, end: 0 },
      blendMode: Phaser.BlendModes.ADD,
    });
    this.sparks.setDepth(3);
  }

  override update(time: number): void {
    const frame = this.arena.frame(this.read);
    if (!frame) return;
    this.onFrame(frame);
    this.showGems(frame, time);
    for (const disc of frame.discs) this.showDisc(disc, frame);
    for (const [id, figure] of this.figures) {
      if (!frame.discs.some((disc) => disc.id === id)) this.remove(id, figure);
    }
    for (const effect of frame.effects) this.showEffect(effect);
    this.aim(frame.own);
  }

  private showGems({ round }: Frame, time: number): void {
    while (this.gems.length > round.gems.length) this.gems.pop()!.destroy();
    for (const [index, [x, y]] of round.gems.entries()) {
      const gem = (this.gems[index] ??= this.add.image(0, 0, index === 0 ? "star" : "gem"));
      gem.setPosition(x / UNIT, y / UNIT);
      gem.setScale(0.5 + 0.04 * Math.sin(time / 250 + index));
      gem.setRotation(index === 0 ? time / 1_500 : 0.15 * Math.sin(time / 500 + index));
    }
  }

  private showDisc(disc: Disc, { round }: Frame): void {
    const x = disc.x / UNIT;
    const y = disc.y / UNIT;
    const figure = this.figures.get(disc.id) ?? this.createFigure(disc.id);
    const isOwn = disc.id === this.arena.room.me;
    figure.body.setPosition(x, y);
    figure.trail.setPosition(x, y);
    figure.trail.frequency = disc.isDashing ? 8 : 28;
    figure.name.setPosition(x, y + this.arena.rules.radius / UNIT + 16).setText(this.arena.nameOf(disc.id));
    figure.score.setText(String(disc.score));
    figure.glow.setScale(disc.isDashing ? 1.5 : isOwn ? 1.05 : 0.9);
    figure.shield.setVisible(disc.isShielded);
    figure.crown.setVisible(disc.id === round.crowned);
  }

  private createFigure(id: number): Figure {
    const isOwn = id === this.arena.room.me;
    const tint = phaserColorOf(id);
    const radius = this.arena.rules.radius / UNIT;
    const sharp = { resolution: 2 * ratio };
    const trail = this.add.particles(0, 0, "glow", {
      lifespan: 420,
      frequency: 28,
      tint,
      scale: { start: 0.42, end: 0.05 },
      alpha: { start: 0.3, end: 0 },
      blendMode: Phaser.BlendModes.ADD,
    });
    const glow = this.add.image(0, 0, "glow").setTint(tint).setBlendMode(Phaser.BlendModes.ADD).setAlpha(0.7);
    const disc = this.add.image(0, 0, "disc").setTint(tint).setDisplaySize(2 * radius, 2 * radius);
    const shield = this.add.circle(0, 0, radius + 6).setStrokeStyle(2, 0xffffff, 0.6);
    const score = this.add.text(0, 0, "", { fontFamily: FONT, fontSize: "20px", fontStyle: "800", ...sharp }).setOrigin(0.5);
    const crown = this.add.image(0, -radius - 10, "crown").setScale(0.5);
    const color = isOwn ? "#ffffff" : "#c4cee6";
    const style = { fontFamily: FONT, fontSize: "17px", color, stroke: "#060a18", strokeThickness: 4, ...sharp };
    const name = this.add.text(0, 0, "", style).setOrigin(0.5).setDepth(2);
    const body = this.add.container(0, 0, [glow, disc, shield, score, crown]).setDepth(isOwn ? 1.5 : 1);
    if (isOwn) body.addAt(this.add.circle(0, 0, radius + 2).setStrokeStyle(2, 0xffffff), 2);
    const figure = { body, glow, shield, score, name, crown, trail };
    this.figures.set(id, figure);
    return figure;
  }

  private remove(id: number, { body, name, trail }: Figure): void {
    for (const part of [body, name, trail]) part.destroy();
    this.figures.delete(id);
  }

  private showEffect(effect: Effect): void {
    const isCollected = "collected" in effect;
    const [x, y] = isCollected ? effect.collected[2] : effect.bumped[3];
    const points = isCollected ? effect.collected[1] : -effect.bumped[2];
    const tint = isCollected ? (points > 1 ? GOLD : GREEN) : phaserColorOf(effect.bumped[1]);
    this.sparks.setParticleTint(tint);
    this.sparks.emitParticleAt(x / UNIT, y / UNIT, isCollected ? 10 : 24);
    if (points !== 0) this.float(x / UNIT, y / UNIT, points > 0 ? `+${points}` : `−${-points}`, tint);
    if (!isCollected && actorsOf(effect).includes(this.arena.room.me)) this.cameras.main.shake(180, 0.006);
  }

  private float(x: number, y: number, text: string, tint: number): void {
    const style = { fontFamily: FONT, fontSize: "22px", fontStyle: "800", resolution: 2 * ratio };
    const label = this.add.text(x, y - 30, text, style).setOrigin(0.5).setDepth(4).setTint(tint);
    this.tweens.add({ targets: label, y: y - 72, alpha: 0, duration: 900, onComplete: () => label.destroy() });
  }

  /** The whole arena where it fits, otherwise the part around the own disc. */
  private aim(own: Disc | undefined): void {
    const camera = this.cameras.main;
    const width = this.arena.rules.width / UNIT;
    const height = this.arena.rules.height / UNIT;
    const room = { width: camera.width / ratio - 2 * MARGIN, height: camera.height / ratio - 2 * MARGIN };
    const zoom = Math.max(Math.min(room.width / width, room.height / height), LEAST_ZOOM);
    camera.setZoom(zoom * ratio);
    const along = (place: number, size: number, space: number) => {
      const half = space / zoom / 2;
      return half >= size / 2 ? size / 2 : Phaser.Math.Clamp(place, half, size - half);
    };
    const x = along((own?.x ?? 0) / UNIT, width, room.width);
    const y = along((own?.y ?? 0) / UNIT, height, room.height);
    camera.centerOn(x, y);
  }
}

/** All pictures are painted here: the example needs no files. */
function paintTextures(textures: Phaser.Textures.TextureManager, width: number, height: number): void {
  const paint = (key: string, w: number, h: number, draw: (g: CanvasRenderingContext2D) => void) => {
    const texture = textures.createCanvas(key, w, h)!;
    draw(texture.context);
    texture.refresh();
  };
  paint("floor", width, height, (g) => {
    const ground = g.createRadialGradient(width / 2, height / 2, 0, width / 2, height / 2, width * 0.6);
    ground.addColorStop(0, "#1b2a58");
    ground.addColorStop(1, "#0a1126");
    g.fillStyle = ground;
    g.beginPath();
    g.roundRect(4, 4, width - 8, height - 8, 22);
    g.fill();
    g.strokeStyle = "#ffffff0d";
    for (let x = 100; x < width; x += 100) g.strokeRect(x, 4, 0, height - 8);
    for (let y = 100; y < height; y += 100) g.strokeRect(4, y, width - 8, 0);
    for (const [color, line] of [["#38d9ff2b", 8], ["#9becff", 2]] as const) {
      g.strokeStyle = color;
      g.lineWidth = line;
      g.beginPath();
      g.roundRect(4, 4, width - 8, height - 8, 22);
      g.stroke();
    }
  });
  paint("glow", 128, 128, (g) => {
    const light = g.createRadialGradient(64, 64, 0, 64, 64, 64);
    for (const [at, alpha] of [[0, 1], [0.3, 0.4], [0.6, 0.1], [1, 0]] as const) {
      light.addColorStop(at, `rgb(255 255 255 / ${alpha})`);
    }
    g.fillStyle = light;
    g.fillRect(0, 0, 128, 128);
  });
  paint("disc", 128, 128, (g) => {
    for (const [color, radius] of [["#ffffff", 63], ["#4d4d4d", 48]] as const) {
      g.fillStyle = color;
      g.beginPath();
      g.arc(64, 64, radius, 0, 2 * Math.PI);
      g.fill();
    }
  });
  paint("gem", 64, 64, (g) => {
    for (const [color, side] of [["#baffdc", -1], ["#4fdc98", 1]] as const) {
      g.fillStyle = color;
      g.beginPath();
      g.moveTo(32, 6);
      g.lineTo(32 + side * 20, 32);
      g.lineTo(32, 58);
      g.fill();
    }
  });
  paint("crown", 72, 48, (g) => {
    g.fillStyle = "#ffd24a";
    g.beginPath();
    for (const [x, y] of [[8, 44], [4, 12], [22, 26], [36, 4], [50, 26], [68, 12], [64, 44]] as const) g.lineTo(x, y);
    g.fill();
  });
  paint("star", 96, 96, (g) => {
    g.fillStyle = "#ffd24a";
    g.shadowColor = "#ffb300";
    g.shadowBlur = 14;
    g.beginPath();
    for (let point = 0; point < 10; point++) {
      const angle = (point * Math.PI) / 5 - Math.PI / 2;
      const radius = point % 2 ? 17 : 36;
      g.lineTo(48 + Math.cos(angle) * radius, 48 + Math.sin(angle) * radius);
    }
    g.fill();
  });
}

const hud = createHud();
const arena = await hud.join();
const read = createControls(hud.surface, hud.dashButton);
const show = (frame: Frame) => {
  hud.update(arena, frame.round);
  Object.assign(globalThis, { example: { room: arena.room, frame } });
};
const game = new Phaser.Game({
  parent: hud.surface,
  backgroundColor: "#060a18",
  scale: { mode: Phaser.Scale.NONE, width: innerWidth * ratio, height: innerHeight * ratio, zoom: 1 / ratio },
  audio: { noAudio: true },
  banner: false,
  scene: new ArenaScene(arena, read, show),
});
addEventListener("resize", () => game.scale.resize(innerWidth * ratio, innerHeight * ratio));
