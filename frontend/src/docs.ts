/** The page behind /docs: the server's OpenAPI document, read with Swagger UI from our own files. */
import SwaggerUIBundle from "swagger-ui-dist/swagger-ui-es-bundle";
import "swagger-ui-dist/swagger-ui.css";

SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#root",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: false,
  // No badge and no request to a validator elsewhere.
  validatorUrl: null,
});
