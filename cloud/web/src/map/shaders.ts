// What the graphics card runs for the fleet. Shapes are distances to an outline, so that they stay
// sharp at every size: an arrow moves, a square stands, a ring has not been heard for long.

export const POINT_VERTEX = `
precision highp float;
attribute vec2 a_to;
attribute vec2 a_from;
attribute float a_moved;
attribute vec3 a_look; // state 0, 1, 2; heading in radians; 1 if selected
uniform mat4 u_matrix;
uniform float u_now;
uniform float u_glide;
uniform float u_size;
varying float v_state;
varying float v_selected;
varying vec2 v_turn;
void main() {
  float part = u_glide > 0.0 ? clamp((u_now - a_moved) / u_glide, 0.0, 1.0) : 1.0;
  gl_Position = u_matrix * vec4(mix(a_from, a_to, part), 0.0, 1.0);
  v_state = a_look.x;
  v_selected = a_look.z;
  v_turn = vec2(cos(a_look.y), sin(a_look.y));
  gl_PointSize = u_size * (1.0 + 0.7 * a_look.z);
}`;

export const POINT_FRAGMENT = `
precision highp float;
uniform vec3 u_colours[3];
uniform vec3 u_rim;
uniform vec3 u_selected;
uniform float u_size;
varying float v_state;
varying float v_selected;
varying vec2 v_turn;
void main() {
  float scale = 1.0 + 0.7 * v_selected;
  vec2 p = (gl_PointCoord * 2.0 - 1.0) * scale;
  float d;
  vec3 colour;
  if (v_state < 0.5) {
    vec2 q = vec2(v_turn.x * p.x + v_turn.y * p.y, -v_turn.y * p.x + v_turn.x * p.y);
    q.x = abs(q.x);
    d = max(dot(q - vec2(0.0, -0.85), vec2(0.929, -0.371)), dot(q - vec2(0.62, 0.7), vec2(-0.4586, 0.8886)));
    colour = u_colours[0];
  } else if (v_state < 1.5) {
    d = max(abs(p.x), abs(p.y)) - 0.46;
    colour = u_colours[1];
  } else {
    d = abs(length(p) - 0.44) - 0.17;
    colour = u_colours[2];
  }
  float soft = 2.0 / u_size;
  float inside = 1.0 - smoothstep(-soft, soft, d);
  float rim = 1.0 - smoothstep(-soft, soft, d - 3.0 / u_size);
  float halo = 0.0;
  if (v_selected > 0.5) halo = 1.0 - smoothstep(-soft, soft, abs(length(p) - 1.35) - 0.16);
  float alpha = max(rim, halo);
  if (alpha < 0.01) discard;
  vec3 mixed = mix(u_rim, colour, inside);
  gl_FragColor = vec4(mix(mixed, u_selected, halo * (1.0 - rim)) * alpha, alpha);
}`;

export const TRAIL_VERTEX = `
precision highp float;
attribute vec2 a_to;
attribute float a_age;
uniform mat4 u_matrix;
varying float v_age;
void main() {
  gl_Position = u_matrix * vec4(a_to, 0.0, 1.0);
  v_age = a_age;
}`;

export const TRAIL_FRAGMENT = `
precision highp float;
uniform vec3 u_colour;
varying float v_age;
void main() {
  float alpha = 0.75 * (1.0 - v_age);
  gl_FragColor = vec4(u_colour * alpha, alpha);
}`;
