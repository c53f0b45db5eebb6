// Draws the arena with three.js. The net is in `shared/arena.ts`: this file asks it for each frame what to draw.

import * as THREE from "three";
import { type Arena, type Disc, type Effect, type Frame, actorsOf, colorOf } from "../../shared/arena";
import { createControls } from "../../shared/controls";
import { createHud } from "../../shared/hud";

/** Units of the arena to a unit of the scene. */
const UNIT = 1_000;
const WALL = 0.35;
const DISC_HEIGHT = 0.24;
const GOLD = 0xffd24a;
const GREEN = 0x4fe0a0;
const BACKGROUND = 0x060a18;
/** How quickly the camera follows, in parts of the way that are left after a second. */
const FOLLOW = 0.01;
/** How much of the way from the middle the camera follows: at the walls it shows more of the arena than of the void. */
const FOLLOWED = { wide: new THREE.Vector3(0.7, 0, 0.55), upright: new THREE.Vector3(0.95, 0, 0.6) };
const SPARK_SECONDS = 0.6;

const threeColorOf = (id: number) => {
  const { hue, saturation, lightness } = colorOf(id);
  return new THREE.Color().setHSL(hue / 360, saturation, lightness);
};

interface Figure {
  readonly group: THREE.Group;
  readonly body: THREE.Mesh;
  readonly glow: THREE.Mesh;
  readonly shield: THREE.Object3D;
  readonly crown: THREE.Object3D;
  readonly label: THREE.Sprite;
  text: string;
}

class World {
  private readonly renderer = new THREE.WebGLRenderer({ antialias: devicePixelRatio < 2 });
  private readonly scene = new THREE.Scene();
  private readonly camera = new THREE.PerspectiveCamera(42, 1, 0.1, 80);
  private readonly figures = new Map<number, Figure>();
  private readonly gems: THREE.Mesh[] = [];
  private readonly sparks: { mesh: THREE.Mesh; velocity: THREE.Vector3; left: number }[] = [];
  private readonly target = new THREE.Vector3();
  private readonly light = glowTexture();
  private readonly discShape: THREE.BufferGeometry;
  private readonly capShape: THREE.BufferGeometry;
  private readonly ringShape: THREE.BufferGeometry;
  private readonly gemShape: THREE.BufferGeometry;
  private readonly starShape: THREE.BufferGeometry;
  private readonly glowShape = new THREE.PlaneGeometry(1, 1).rotateX(-Math.PI / 2);
  private readonly sparkShape = new THREE.TetrahedronGeometry(0.06);
  private shake = 0;

  constructor(
    private readonly arena: Arena,
    parent: HTMLElement,
  ) {
    const { radius, gemRadius } = arena.rules;
    this.discShape = new THREE.CylinderGeometry(radius / UNIT, (radius / UNIT) * 0.92, DISC_HEIGHT, 48);
    this.capShape = new THREE.CircleGeometry((radius / UNIT) * 0.76, 48).rotateX(-Math.PI / 2);
    this.ringShape = new THREE.TorusGeometry(radius / UNIT + 0.05, 0.018, 8, 48).rotateX(Math.PI / 2);
    this.gemShape = new THREE.OctahedronGeometry((gemRadius / UNIT) * 1.1).scale(0.75, 1.15, 0.75);
    this.starShape = starGeometry((gemRadius / UNIT) * 1.7);
    this.renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    parent.append(this.renderer.domElement);
    this.furnish();
    this.resize();
    addEventListener("resize", () => this.resize());
  }

  draw({ round, discs, own, effects }: Frame, seconds: number, elapsed: number): void {
    for (const [index, place] of round.gems.entries()) this.showGem(index, place, seconds);
    while (this.gems.length > round.gems.length) this.scene.remove(this.gems.pop()!);
    for (const disc of discs) this.showDisc(disc, disc.id === round.crowned, seconds);
    for (const [id, { group }] of this.figures) {
      if (discs.some((disc) => disc.id === id)) continue;
      this.scene.remove(group);
      this.figures.delete(id);
    }
    for (const effect of effects) this.showEffect(effect);
    this.moveSparks(elapsed);
    this.aim(own, elapsed);
    this.renderer.render(this.scene, this.camera);
  }

  /** The middle of the arena is the origin; its right is +x, its bottom +z. */
  private place(x: number, y: number, height: number, into: THREE.Vector3): THREE.Vector3 {
    const { width, height: depth } = this.arena.rules;
    return into.set((x - width / 2) / UNIT, height, (y - depth / 2) / UNIT);
  }

  private furnish(): void {
    const width = this.arena.rules.width / UNIT;
    const depth = this.arena.rules.height / UNIT;
    this.scene.background = new THREE.Color(BACKGROUND);
    this.scene.fog = new THREE.Fog(BACKGROUND, 16, 34);
    this.scene.add(new THREE.HemisphereLight(0xbcd4ff, 0x1a2038, 1.1));
    const sun = new THREE.DirectionalLight(0xffffff, 1.7);
    sun.position.set(-5, 10, 4);
    this.scene.add(sun);
    const floor = new THREE.Mesh(
      new THREE.PlaneGeometry(width, depth).rotateX(-Math.PI / 2),
      new THREE.MeshLambertMaterial({ map: floorTexture(width, depth) }),
    );
    this.scene.add(floor);
    const wall = new THREE.MeshLambertMaterial({ color: 0x1b4a7a, emissive: 0x1a86c8, emissiveIntensity: 0.9 });
    for (const side of [-1, 1]) {
      const long = new THREE.Mesh(new THREE.BoxGeometry(width + 0.3, WALL, 0.12), wall);
      long.position.set(0, WALL / 2, side * (depth / 2 + 0.06));
      const short = new THREE.Mesh(new THREE.BoxGeometry(0.12, WALL, depth + 0.3), wall);
      short.position.set(side * (width / 2 + 0.06), WALL / 2, 0);
      this.scene.add(long, short);
    }
  }

  private showGem(index: number, [x, y]: readonly [number, number], seconds: number): void {
    const isStar = index === 0;
    let gem = this.gems[index];
    if (!gem) {
      const color = isStar ? GOLD : GREEN;
      const material = new THREE.MeshStandardMaterial({ color, emissive: color, emissiveIntensity: 0.45, roughness: 0.25, flatShading: true });
      gem = new THREE.Mesh(isStar ? this.starShape : this.gemShape, material);
      const glow = this.glow(color, isStar ? 1.4 : 0.8, 0.6);
      glow.position.y = -0.21;
      gem.add(glow);
      this.gems[index] = gem;
      this.scene.add(gem);
    }
    this.place(x, y, 0.28 + 0.05 * Math.sin(seconds * 3 + index), gem.position);
    gem.rotation.y = seconds * 1.6 + index;
  }

  private showDisc(disc: Disc, isCrowned: boolean, seconds: number): void {
    const figure = this.figures.get(disc.id) ?? this.createFigure(disc.id);
    this.place(disc.x, disc.y, DISC_HEIGHT / 2 + 0.02, figure.group.position);
    const speed = 0.00004;
    figure.body.rotation.set(disc.vy * speed, 0, -disc.vx * speed);
    figure.shield.visible = disc.isShielded;
    figure.crown.visible = isCrowned;
    figure.crown.rotation.y = seconds;
    figure.glow.scale.setScalar(disc.isDashing ? 2.6 : 1.5);
    const text = `${this.arena.nameOf(disc.id)}\n${disc.score}`;
    if (text !== figure.text) {
      figure.text = text;
      paintLabel(figure.label, text, disc.id === this.arena.room.me);
    }
  }

  private createFigure(id: number): Figure {
    const color = threeColorOf(id);
    const isOwn = id === this.arena.room.me;
    const group = new THREE.Group();
    const body = new THREE.Mesh(
      this.discShape,
      new THREE.MeshStandardMaterial({ color, emissive: color, emissiveIntensity: 0.12, roughness: 0.35, metalness: 0.2 }),
    );
    const cap = new THREE.Mesh(this.capShape, new THREE.MeshStandardMaterial({ color: color.clone().multiplyScalar(0.25), roughness: 0.5 }));
    cap.position.y = DISC_HEIGHT / 2 + 0.005;
    body.add(cap);
    const glow = this.glow(color, 1, 0.7);
    glow.position.y = -DISC_HEIGHT / 2;
    const white = new THREE.MeshBasicMaterial({ color: 0xffffff });
    const shield = new THREE.Mesh(this.ringShape, new THREE.MeshBasicMaterial({ color: 0xffffff, transparent: true, opacity: 0.6 }));
    shield.position.y = 0.1;
    const crown = new THREE.Mesh(
      new THREE.CylinderGeometry(0.17, 0.12, 0.12, 7, 1, true),
      new THREE.MeshStandardMaterial({ color: GOLD, emissive: GOLD, emissiveIntensity: 0.5, side: THREE.DoubleSide, flatShading: true }),
    );
    crown.position.y = 0.24;
    const label = new THREE.Sprite(new THREE.SpriteMaterial({ transparent: true, depthTest: false, fog: false }));
    label.scale.set(1.7, 0.64, 1);
    label.position.y = 0.8;
    group.add(body, glow, shield, crown, label);
    if (isOwn) {
      const ring = new THREE.Mesh(this.ringShape, white);
      ring.position.y = -DISC_HEIGHT / 2 + 0.03;
      group.add(ring);
    }
    this.scene.add(group);
    const figure = { group, body, glow, shield, crown, label, text: "" };
    this.figures.set(id, figure);
    return figure;
  }

  /** A light on the floor. */
  private glow(color: THREE.ColorRepresentation, size: number, opacity: number): THREE.Mesh {
    const material = { map: this.light, color, opacity, blending: THREE.AdditiveBlending, transparent: true, depthWrite: false };
    const glow = new THREE.Mesh(this.glowShape, new THREE.MeshBasicMaterial(material));
    glow.scale.setScalar(size);
    return glow;
  }

  private showEffect(effect: Effect): void {
    const isCollected = "collected" in effect;
    const [x, y] = isCollected ? effect.collected[2] : effect.bumped[3];
    const color = isCollected ? (effect.collected[1] > 1 ? GOLD : GREEN) : threeColorOf(effect.bumped[1]);
    const material = new THREE.MeshBasicMaterial({ color });
    for (let n = 0; n < (isCollected ? 10 : 24); n++) {
      const mesh = new THREE.Mesh(this.sparkShape, material);
      this.place(x, y, 0.25, mesh.position);
      const angle = Math.random() * 2 * Math.PI;
      const speed = 1 + Math.random() * 2.5;
      const velocity = new THREE.Vector3(Math.cos(angle) * speed, 1.5 + Math.random() * 2, Math.sin(angle) * speed);
      this.sparks.push({ mesh, velocity, left: SPARK_SECONDS });
      this.scene.add(mesh);
    }
    if (!isCollected && actorsOf(effect).includes(this.arena.room.me)) this.shake = 1;
  }

  private moveSparks(elapsed: number): void {
    for (const spark of this.sparks) {
      spark.left -= elapsed;
      spark.velocity.y -= 9 * elapsed;
      spark.mesh.position.addScaledVector(spark.velocity, elapsed);
      spark.mesh.scale.setScalar(Math.max(0.01, spark.left / SPARK_SECONDS));
      if (spark.left <= 0) this.scene.remove(spark.mesh);
    }
    const alive = this.sparks.filter(({ left }) => left > 0);
    this.sparks.splice(0, this.sparks.length, ...alive);
  }

  /** Behind and above the own disc, further away on an upright screen. */
  private aim(own: Disc | undefined, elapsed: number): void {
    const isUpright = this.camera.aspect < 1;
    const goal = new THREE.Vector3();
    if (own) this.place(own.x, own.y, 0, goal).multiply(isUpright ? FOLLOWED.upright : FOLLOWED.wide);
    this.target.lerp(goal, 1 - FOLLOW ** elapsed);
    const distance = isUpright ? 1.35 : 1.15;
    this.shake *= 0.02 ** elapsed;
    const jolt = this.shake * 0.12;
    this.camera.position.set(
      this.target.x + (Math.random() - 0.5) * jolt,
      7.6 * distance + (Math.random() - 0.5) * jolt,
      this.target.z + 5.4 * distance,
    );
    this.camera.lookAt(this.target.x, 0, this.target.z);
  }

  private resize(): void {
    this.renderer.setSize(innerWidth, innerHeight);
    this.camera.aspect = innerWidth / innerHeight;
    this.camera.updateProjectionMatrix();
  }
}

function canvas(width: number, height: number): CanvasRenderingContext2D {
  return Object.assign(document.createElement("canvas"), { width, height }).getContext("2d")!;
}

function textureOf(g: CanvasRenderingContext2D): THREE.CanvasTexture {
  const texture = new THREE.CanvasTexture(g.canvas);
  texture.colorSpace = THREE.SRGBColorSpace;
  texture.anisotropy = 8;
  return texture;
}

function glowTexture(): THREE.Texture {
  const g = canvas(128, 128);
  const light = g.createRadialGradient(64, 64, 0, 64, 64, 64);
  for (const [at, alpha] of [[0, 1], [0.3, 0.4], [0.6, 0.1], [1, 0]] as const) {
    light.addColorStop(at, `rgb(255 255 255 / ${alpha})`);
  }
  g.fillStyle = light;
  g.fillRect(0, 0, 128, 128);
  return textureOf(g);
}

function floorTexture(width: number, depth: number): THREE.Texture {
  const scale = 64;
  const g = canvas(width * scale, depth * scale);
  const { width: w, height: h } = g.canvas;
  const ground = g.createRadialGradient(w / 2, h / 2, 0, w / 2, h / 2, w * 0.6);
  ground.addColorStop(0, "#2a4180");
  ground.addColorStop(1, "#101a3a");
  g.fillStyle = ground;
  g.fillRect(0, 0, w, h);
  g.fillStyle = "#ffffff12";
  for (let x = 0; x <= w; x += scale) g.fillRect(x - 1, 0, 2, h);
  for (let y = 0; y <= h; y += scale) g.fillRect(0, y - 1, w, 2);
  g.strokeStyle = "#ffffff26";
  g.lineWidth = 4;
  g.beginPath();
  g.arc(w / 2, h / 2, 1.5 * scale, 0, 2 * Math.PI);
  g.stroke();
  return textureOf(g);
}

function starGeometry(radius: number): THREE.BufferGeometry {
  const shape = new THREE.Shape();
  for (let point = 0; point < 10; point++) {
    const angle = (point * Math.PI) / 5 + Math.PI / 2;
    const length = point % 2 ? radius * 0.46 : radius;
    const at = [Math.cos(angle) * length, Math.sin(angle) * length] as const;
    if (point === 0) shape.moveTo(...at);
    else shape.lineTo(...at);
  }
  const bevel = { bevelThickness: 0.03, bevelSize: 0.02, bevelSegments: 1 };
  return new THREE.ExtrudeGeometry(shape, { depth: 0.05, ...bevel }).center();
}

/** A name, and below it the score. */
function paintLabel(sprite: THREE.Sprite, text: string, isOwn: boolean): void {
  const g = canvas(512, 192);
  g.textAlign = "center";
  g.lineJoin = "round";
  g.strokeStyle = "#060a18d9";
  g.fillStyle = isOwn ? "#ffffff" : "#c9d5f2";
  for (const [index, line] of text.split("\n").entries()) {
    g.font = `${index === 0 ? 600 : 800} ${index === 0 ? 44 : 58}px system-ui, sans-serif`;
    g.lineWidth = 10;
    const y = index === 0 ? 70 : 140;
    g.strokeText(line, 256, y, 500);
    g.fillText(line, 256, y, 500);
  }
  sprite.material.map?.dispose();
  sprite.material.map = textureOf(g);
  sprite.material.needsUpdate = true;
}

const hud = createHud();
const arena = await hud.join();
const read = createControls(hud.surface, hud.dashButton);
const world = new World(arena, hud.surface);
let last = performance.now();

requestAnimationFrame(function draw(now) {
  requestAnimationFrame(draw);
  const elapsed = Math.min(0.1, Math.max(0, (now - last) / 1_000));
  last = now;
  const frame = arena.frame(read);
  if (!frame) return;
  hud.update(arena, frame.round);
  world.draw(frame, now / 1_000, elapsed);
  Object.assign(globalThis, { example: { room: arena.room, frame } });
});
