// Package ui is the small component kit of the pages: each component is one templ function with one Props struct, whose
// variants are typed and become classes in one switch. Nothing here knows a page, a request or a database.
//
// The names of colours, sizes and radii come from tailwind.config.js. The style sheet is built from the classes that
// stand in the .templ files, so a class must be written out whole: one put together at run time would be missing.
// Pages carry no style attribute and no script of their own, since the content security policy refuses both.
package ui
