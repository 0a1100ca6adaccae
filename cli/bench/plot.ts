/**
 * The plot of `vmsnap bench --plot`: an SVG of two panels. Bars: how fast each detector looks at zero memory, beside what a thread
 * can read at all. Points: each codec and level, save time against the size of the image.
 */
import type { BenchReport } from '../../lib/index.js';

const WIDTH = 900;
const PANEL_HEIGHT = 300;
const MARGIN = { left: 150, right: 110, top: 50, bottom: 50 };
const INNER_WIDTH = WIDTH - MARGIN.left - MARGIN.right;
const INNER_HEIGHT = PANEL_HEIGHT - MARGIN.top - MARGIN.bottom;
const AXIS_GAP = 20;
const LABEL_WIDTH = 70;
const LABEL_HEIGHT = 15;
const TIME_TICKS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500];

export function benchPlot(report: BenchReport): string {
  const panels = [scanPanel(report), codecPanel(report)].filter((panel) => panel !== undefined);
  const height = PANEL_HEIGHT * panels.length;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" font-family="sans-serif" font-size="13">`,
    `<rect width="${WIDTH}" height="${height}" fill="white"/>`,
    ...panels.map((panel, i) => `<g transform="translate(0 ${i * PANEL_HEIGHT})">${panel}</g>`),
    '</svg>',
    '',
  ].join('\n');
}

interface Bar {
  readonly label: string;
  readonly gigabytes: number;
  readonly color: string;
}

function scanPanel({ scan }: BenchReport): string | undefined {
  if (scan === undefined) return undefined;
  const bars: Bar[] = [
    { label: 'read at most', gigabytes: scan.bandwidthBytesPerSecond / 1e9, color: '#999999' },
    ...scan.detectors.flatMap(({ detector, emulated, memoryBytesPerSecond, fileBytesPerSecond }): Bar[] => {
      const file = { label: `${detector}, in a file`, gigabytes: fileBytesPerSecond / 1e9, color: '#7fb3d5' };
      // A device in software has no speed to be shown.
      if (emulated) return [];
      if (memoryBytesPerSecond === undefined) return [file];
      return [{ label: `${detector}, at hand`, gigabytes: memoryBytesPerSecond / 1e9, color: '#2471a3' }, file];
    }),
  ];
  const most = Math.max(...bars.map(({ gigabytes }) => gigabytes));
  const step = INNER_HEIGHT / bars.length;
  const drawn = bars.map(({ label, gigabytes, color }, i) => {
    const y = MARGIN.top + i * step;
    const width = (gigabytes / most) * INNER_WIDTH;
    return [
      text(MARGIN.left - 8, y + step / 2 + 4, label, 'end'),
      `<rect x="${MARGIN.left}" y="${round(y + step * 0.15)}" width="${round(width)}" height="${round(step * 0.7)}" fill="${color}"/>`,
      text(MARGIN.left + width + 6, y + step / 2 + 4, `${gigabytes.toFixed(1)} GB/s`, 'start'),
    ].join('');
  });
  return title('Zero memory looked at by one thread') + drawn.join('\n');
}

interface Point {
  readonly label: string;
  readonly x: number;
  readonly y: number;
}

/** The time on a logarithmic scale, since levels differ by tens. */
function codecPanel({ codecs, setup }: BenchReport): string | undefined {
  if (codecs === undefined) return undefined;
  const times = codecs.map(({ saveSeconds }) => Math.log(saveSeconds));
  const [least, most] = [Math.min(...times), Math.max(...times)];
  const mostShare = Math.max(...codecs.map(({ imageBytes }) => imageBytes / setup.memoryBytes));
  const xOf = (seconds: number) =>
    MARGIN.left + AXIS_GAP + ((Math.log(seconds) - least) / Math.max(most - least, 1e-9)) * (INNER_WIDTH - AXIS_GAP);
  const points = codecs.map(
    ({ codec, level, saveSeconds, imageBytes }): Point => ({
      label: level === undefined ? codec : `${codec} ${level}`,
      x: xOf(saveSeconds),
      y: MARGIN.top + INNER_HEIGHT * (1 - imageBytes / setup.memoryBytes / mostShare),
    }),
  );
  const bottom = MARGIN.top + INNER_HEIGHT;
  const ticks = TIME_TICKS.filter((tick) => Math.log(tick) >= least && Math.log(tick) <= most);
  return [
    title('Whole saves: time (logarithmic) against size of the image'),
    `<path d="M${MARGIN.left} ${MARGIN.top}V${bottom}H${MARGIN.left + INNER_WIDTH}" fill="none" stroke="black"/>`,
    text(MARGIN.left - 8, MARGIN.top + 5, `${(mostShare * 100).toFixed(0)} % of memory`, 'end'),
    text(MARGIN.left - 8, bottom + 5, '0', 'end'),
    ...ticks.map(
      (tick) =>
        `<path d="M${round(xOf(tick))} ${bottom}v6" stroke="black"/>${text(xOf(tick), bottom + 20, `${tick} s`, 'middle')}`,
    ),
    ...labelled(points),
  ].join('\n');
}

/** Each label right of its point, or lower where another one stands already. */
function labelled(points: readonly Point[]): string[] {
  const placed: { x: number; y: number }[] = [];
  return [...points]
    .sort((a, b) => a.y - b.y)
    .map(({ label, x, y }) => {
      let labelY = y;
      const isTaken = () =>
        placed.some((other) => Math.abs(other.x - x) < LABEL_WIDTH && Math.abs(other.y - labelY) < LABEL_HEIGHT) ||
        points.some((other) => other.x > x && other.x < x + LABEL_WIDTH && Math.abs(other.y - labelY) < LABEL_HEIGHT);
      while (isTaken()) labelY += 1;
      placed.push({ x, y: labelY });
      const line = `<path d="M${round(x)} ${round(y)}L${round(x + 12)} ${round(labelY)}" stroke="#999999"/>`;
      const dot = `<circle cx="${round(x)}" cy="${round(y)}" r="5" fill="#2471a3"/>`;
      return `${line}${dot}${text(x + 14, labelY + 4, label, 'start')}`;
    });
}

function title(words: string): string {
  return `<text x="${MARGIN.left}" y="30" font-size="16">${words}</text>`;
}

/** Labels are our own words: nothing in them needs escaping. */
function text(x: number, y: number, words: string, anchor: 'start' | 'middle' | 'end'): string {
  return `<text x="${round(x)}" y="${round(y)}" text-anchor="${anchor}">${words}</text>`;
}

function round(value: number): string {
  return value.toFixed(1);
}
