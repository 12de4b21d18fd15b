/* vitlet: int8 Vision Transformers on a processor, without a framework.
 *
 *   vitlet_model *model = vitlet_load("model.safetensors");
 *   vitlet_session *session = vitlet_open(model, 2);
 *   if (vitlet_run_rgb(session, pixels, 1, logits) != 0) puts(vitlet_last_error());
 *   vitlet_close(session);
 *   vitlet_free(model);
 *
 * Functions that return a pointer return NULL on failure; those that return int return 0, or -1 if the call was wrong,
 * or -2 if there was not enough memory. Then vitlet_last_error has one sentence on it. No function aborts, exits or
 * throws. A model or session that is asked about itself must not be NULL. All sizes are in elements unless their name
 * says bytes.
 */
#ifndef VITLET_H_
#define VITLET_H_

#include <stddef.h>
#include <stdint.h>

#define VITLET_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

/* Weights, never changed after loading. Sessions on any threads may share one. */
typedef struct vitlet_model vitlet_model;
/* Buffers and threads for running a model. Calls to one session from several threads wait for each other. A session does
 * not survive fork(): open another one in the child. */
typedef struct vitlet_session vitlet_session;

/* What went wrong last on this thread; "" if nothing did. Valid until the next call on this thread. */
VITLET_API const char *vitlet_last_error(void);

/* The library's version, "major.minor.patch". */
VITLET_API const char *vitlet_version(void);

/* The instruction sets that this processor has, best first, separated by spaces. The environment variable VITLET_ISA
 * names the one that models loaded from then on use; otherwise it is the first. */
VITLET_API const char *vitlet_instruction_sets(void);

/* Reads and checks a model file, which must not be cut short meanwhile. It may be removed afterwards. */
VITLET_API vitlet_model *vitlet_load(const char *path);
/* Sessions that are still open keep what they need. NULL is allowed. */
VITLET_API void vitlet_free(vitlet_model *model);

VITLET_API size_t vitlet_image_height(const vitlet_model *model);
VITLET_API size_t vitlet_image_width(const vitlet_model *model);
VITLET_API size_t vitlet_classes(const vitlet_model *model);
/* A text of the file's metadata, UTF-8; NULL if there is none. "image_spec" is JSON that says how an image becomes the
 * model's pixels: resize, crop, interpolation. */
VITLET_API const char *vitlet_metadata(const vitlet_model *model, const char *key);
/* The name of a class, UTF-8; NULL if there is no such class. */
VITLET_API const char *vitlet_label(const vitlet_model *model, size_t class_number);
/* "int8-dynamic" or "fp32". */
VITLET_API const char *vitlet_precision(const vitlet_model *model);
/* The instruction set that this model runs on. */
VITLET_API const char *vitlet_instruction_set(const vitlet_model *model);

/* Opens a session with 1 to 1024 threads, the caller's included. */
VITLET_API vitlet_session *vitlet_open(const vitlet_model *model, int threads);
VITLET_API void vitlet_close(vitlet_session *session);

/* images: normalized, [batch][3][height][width], all finite; logits: [batch][classes]. */
VITLET_API int vitlet_run(vitlet_session *session, const float *images, size_t batch, float *logits);
/* pixels: RGB, [batch][height][width][3], already resized to the model's height and width; mean and deviation are part
 * of the model. */
VITLET_API int vitlet_run_rgb(vitlet_session *session, const uint8_t *pixels, size_t batch, float *logits);

/* Switches the clock of the phases on or off, and to zero: read it before switching it off. */
VITLET_API void vitlet_profile(vitlet_session *session, int on);
/* Phases 0, 1, ...: their names (NULL behind the last) and milliseconds, added up over runs and threads. */
VITLET_API const char *vitlet_phase_name(size_t phase);
VITLET_API double vitlet_phase_ms(const vitlet_session *session, size_t phase);

#ifdef __cplusplus
}
#endif

#endif /* VITLET_H_ */
