//go:build race

package main

// raceDetector is a build that looks for races: it does the same, but putting PDFium together would take it a minute.
const raceDetector = true
