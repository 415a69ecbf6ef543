package knowledge

import (
	"fmt"
	"sort"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/tiktoken-go/tokenizer/codec"
)

// How a text is cut, in tokens. What is cut off at one passage's end begins the next, so that a sentence near a cut is
// found with what belongs to it.
const (
	ChunkTokens = 1000 // no passage has more
	Overlap     = 200  // about: the next passage begins where a sentence or a word does

	chunkLeast  = 800 // nor has one fewer, but the last, as long as there is a good place to cut
	overlapSway = 50
)

// Vocabulary is the name of the tokens.
const Vocabulary = "cl100k_base"

// encoding counts tokens as cl100k_base does, OpenAI's encoding for its embeddings of the third generation.
// github.com/tiktoken-go/tokenizer has it built in and needs no network; made on first use, since it takes 10 MB.
var encoding = sync.OnceValue(codec.NewCl100kBase)

// chunk is a passage: bytes start to end of its text, without blanks at its ends.
type chunk struct{ start, end int }

// split cuts a text into passages of up to ChunkTokens tokens that overlap by about Overlap, in order. Every token is in
// one of them at least, and none parts a character. It cuts at the end of a paragraph if one ends near enough, else of a
// sentence, else between words, else where it must.
func split(text string) ([]chunk, error) {
	c, err := newCutter(text)
	if err != nil {
		return nil, err
	}
	var chunks []chunk
	for from := 0; from < c.last(); {
		most := ChunkTokens
		for {
			to := c.last()
			if to-from > most {
				to = c.best(from+most*chunkLeast/ChunkTokens, from+most, from+most)
			}
			piece := c.trimmed(from, to)
			n, err := encoding().Count(text[piece.start:piece.end])
			if err != nil {
				return nil, fmt.Errorf("couldn't count tokens: %w", err)
			}
			// Alone it may be a few tokens more than as a part of the whole: the first word lost its blank, or the cut went
			// through a word.
			if n > ChunkTokens {
				if most -= n - ChunkTokens; most < chunkLeast {
					return nil, fmt.Errorf("a passage of %d tokens has %d alone", most, n)
				}
				continue
			}
			if piece.start < piece.end {
				chunks = append(chunks, piece)
			}
			if to == c.last() {
				return chunks, nil
			}
			from = c.best(to-Overlap-overlapSway, to-Overlap+overlapSway, to-Overlap)
			break
		}
	}
	return chunks, nil
}

// cutter finds places to cut between the tokens of a text.
type cutter struct {
	text string
	// at are the offsets between tokens, both ends of the text included.
	at []int
}

func newCutter(text string) (*cutter, error) {
	_, tokens, err := encoding().Encode(text)
	if err != nil {
		return nil, fmt.Errorf("couldn't find the tokens: %w", err)
	}
	c := &cutter{text: text, at: make([]int, 1, len(tokens)+1)}
	for _, t := range tokens {
		c.at = append(c.at, c.at[len(c.at)-1]+len(t))
	}
	if c.at[len(c.at)-1] != len(text) {
		return nil, fmt.Errorf("the tokens hold %d bytes, the text %d", c.at[len(c.at)-1], len(text))
	}
	return c, nil
}

// last is the number of tokens.
func (c *cutter) last() int { return len(c.at) - 1 }

// best gives the best place to cut before one of the tokens low to high; of equally good ones, the nearest to want. There
// is always one within reach, since no character has more than four tokens.
func (c *cutter) best(low, high, want int) int {
	best, found := want, uncut
	for i := low; i <= high; i++ {
		k := c.kind(i)
		if k > found || k == found && abs(i-want) < abs(best-want) {
			best, found = i, k
		}
	}
	return best
}

func abs(n int) int { return max(n, -n) }

// cutKind is how good a place to cut is.
type cutKind uint8

const (
	uncut        cutKind = iota // within a character
	withinWord                  // between characters
	betweenWords                // beside a blank
	betweenLines                // which is nothing special in a PDF
	betweenSentences
	betweenParagraphs
)

// lookAround is how many bytes on each side tell how good a place to cut is.
const lookAround = 64

// kind looks at the place before token i.
func (c *cutter) kind(i int) cutKind {
	at := c.at[i]
	if at == 0 || at == len(c.text) {
		return betweenParagraphs
	}
	if !utf8.RuneStart(c.text[at]) {
		return uncut
	}
	near := c.text[max(0, at-lookAround):at]
	before := strings.TrimRightFunc(near, unicode.IsSpace)
	blank := near[len(before):]
	near = c.text[at:min(len(c.text), at+lookAround)]
	blank += near[:len(near)-len(strings.TrimLeftFunc(near, unicode.IsSpace))]
	switch {
	case blank == "":
		return withinWord
	case strings.Count(blank, "\n") > 1:
		return betweenParagraphs
	case endsSentence(before):
		return betweenSentences
	case strings.Contains(blank, "\n"):
		return betweenLines
	}
	return betweenWords
}

// endsSentence reports whether text, without blanks at its end, looks like the end of a sentence.
func endsSentence(text string) bool {
	last, _ := utf8.DecodeLastRuneInString(strings.TrimRight(text, `"'”’)]*_`))
	return strings.ContainsRune(".!?…", last)
}

// trimmed is the text of tokens from to to, without blanks at its ends.
func (c *cutter) trimmed(from, to int) chunk {
	piece := chunk{c.at[from], c.at[to]}
	text := c.text[piece.start:piece.end]
	piece.start += len(text) - len(strings.TrimLeftFunc(text, unicode.IsSpace))
	piece.end = max(piece.start, piece.end-(len(text)-len(strings.TrimRightFunc(text, unicode.IsSpace))))
	return piece
}

// pageOf gives the page, from 1, on which an offset of the whole text lies; starts are the offsets at which pages begin.
func pageOf(starts []int, offset int) int {
	return sort.Search(len(starts), func(i int) bool { return starts[i] > offset })
}
