/** Prints how many threads the library would use here. */
import { defaultThreads } from '../../../lib/index.js';

process.stdout.write(String(defaultThreads()));
