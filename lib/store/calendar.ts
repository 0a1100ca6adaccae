/**
 * The hours, days, ISO weeks, months and years of a time zone, by the zone's own rules (Intl): a day has 23, 24 or 25 hours,
 * and the hour that is repeated in autumn is two hours.
 */
import { VmsnapError } from '../../native/errors.js';

const DAY_MS = 86_400_000;

export type Period = 'hour' | 'day' | 'week' | 'month' | 'year';

/** The zone of this system: TZ, else what /etc/localtime says. */
export function systemTimeZone(): string {
  return new Intl.DateTimeFormat().resolvedOptions().timeZone;
}

export class Calendar {
  readonly timeZone: string;
  readonly #format: Intl.DateTimeFormat;

  /** @throws USAGE if there is no such zone. */
  constructor(timeZone = systemTimeZone()) {
    try {
      this.#format = new Intl.DateTimeFormat('en-US', {
        timeZone,
        calendar: 'gregory',
        numberingSystem: 'latn',
        hourCycle: 'h23',
        year: 'numeric',
        month: 'numeric',
        day: 'numeric',
        hour: 'numeric',
        minute: 'numeric',
        second: 'numeric',
      });
    } catch {
      throw new VmsnapError('USAGE', `there is no time zone ${JSON.stringify(timeZone)}`, {
        hint: 'an IANA name, such as Europe/Berlin or UTC',
      });
    }
    this.timeZone = timeZone;
  }

  /** A name of the period in which the time falls: the same for all times in it, and for no other. Milliseconds since 1970. */
  name(period: Period, time: number): string {
    const local = this.#localTime(time);
    const text = new Date(local).toISOString();
    switch (period) {
      case 'hour':
        return `${text.slice(0, 13)}${offsetText(local - floorSeconds(time))}`;
      case 'day':
        return text.slice(0, 10);
      case 'week':
        return isoWeek(local);
      case 'month':
        return text.slice(0, 7);
      case 'year':
        return text.slice(0, 4);
    }
  }

  /** What a clock on the wall shows, as if it were UTC. */
  #localTime(time: number): number {
    const parts: Record<string, number> = {};
    for (const { type, value } of this.#format.formatToParts(time)) parts[type] = Number(value);
    const { year, month, day, hour, minute, second } = parts as Record<string, number>;
    return Date.UTC(year!, month! - 1, day!, hour!, minute!, second!);
  }
}

function floorSeconds(time: number): number {
  return Math.floor(time / 1000) * 1000;
}

/** "+02:00", and seconds where a zone of long ago has them. */
function offsetText(offsetMs: number): string {
  const seconds = Math.abs(offsetMs) / 1000;
  const two = (value: number): string => String(value).padStart(2, '0');
  const rest = seconds % 60 === 0 ? '' : `:${two(seconds % 60)}`;
  return `${offsetMs < 0 ? '-' : '+'}${two(Math.floor(seconds / 3600))}:${two(Math.floor(seconds / 60) % 60)}${rest}`;
}

/** ISO 8601: weeks begin on Monday, and a week belongs to the year that its Thursday is in. */
function isoWeek(local: number): string {
  const weekday = (new Date(local).getUTCDay() + 6) % 7;
  const day = Math.floor(local / DAY_MS);
  const thursday = (day - weekday + 3) * DAY_MS;
  const year = new Date(thursday).getUTCFullYear();
  const week = Math.floor((thursday - Date.UTC(year, 0, 1)) / DAY_MS / 7) + 1;
  return `${String(year).padStart(4, '0')}-W${String(week).padStart(2, '0')}`;
}
