// Package docs holds the API's reference beside the other documents, so that the program serves the very file that people
// read and the tests hold the answers against.
package docs

import _ "embed"

// OpenAPI is openapi.yaml: OpenAPI 3.1, https://spec.openapis.org/oas/v3.1.1. Its server is a placeholder.
//
//go:embed openapi.yaml
var OpenAPI []byte
