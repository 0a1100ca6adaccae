/** The word that was meant. */
export { editDistance, nearest, suggestWord } from '../../lib/nearestWord.js';
