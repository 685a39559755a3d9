/** The package ships no types for its bundle; these are the options that we use. */
declare module "swagger-ui-dist/swagger-ui-es-bundle" {
  interface Options {
    url: string;
    dom_id: string;
    deepLinking: boolean;
    displayRequestDuration: boolean;
    tryItOutEnabled: boolean;
    validatorUrl: string | null;
  }
  export default function SwaggerUIBundle(options: Options): unknown;
}
