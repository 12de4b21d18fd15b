/* Classifies one raw image: RGB bytes, row by row, of the model's height and width.
 *
 *   cc classify.c -I../include -L../build -lvitlet -Wl,-rpath,../build -o classify
 *   ./classify model.safetensors image.rgb [threads]
 */
#include <stdio.h>
#include <stdlib.h>

#include "vitlet.h"

static int fail(const char *message) {
  fprintf(stderr, "classify: %s\n", message);
  return 1;
}

static int report(vitlet_model *model, const float *logits) {
  size_t best = 0;
  size_t i;
  for (i = 1; i < vitlet_classes(model); ++i) {
    if (logits[i] > logits[best]) best = i;
  }
  printf("%s (logit %.3f)\n", vitlet_label(model, best), logits[best]);
  return 0;
}

static int classify(vitlet_model *model, vitlet_session *session, FILE *file) {
  const size_t bytes = 3 * vitlet_image_height(model) * vitlet_image_width(model);
  unsigned char *pixels = malloc(bytes);
  float *logits = malloc(vitlet_classes(model) * sizeof(float));
  int status;
  if (pixels == NULL || logits == NULL) {
    status = fail("there is not enough memory");
  } else if (fread(pixels, 1, bytes, file) != bytes || fgetc(file) != EOF) {
    status = fail("the image does not have height * width * 3 bytes");
  } else if (vitlet_run_rgb(session, pixels, 1, logits) != 0) {
    status = fail(vitlet_last_error());
  } else {
    status = report(model, logits);
  }
  free(pixels);
  free(logits);
  return status;
}

int main(int argc, char **argv) {
  vitlet_model *model;
  vitlet_session *session;
  FILE *file;
  int status;
  if (argc < 3 || argc > 4) return fail("give a model file and a raw image, and perhaps a number of threads");
  model = vitlet_load(argv[1]);
  if (model == NULL) return fail(vitlet_last_error());
  session = vitlet_open(model, argc > 3 ? atoi(argv[3]) : 1);
  if (session == NULL) {
    vitlet_free(model);
    return fail(vitlet_last_error());
  }
  file = fopen(argv[2], "rb");
  status = file == NULL ? fail("the image cannot be opened") : classify(model, session, file);
  if (file != NULL) fclose(file);
  vitlet_close(session);
  vitlet_free(model);
  return status;
}
