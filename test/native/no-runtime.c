/* What native/device.c takes from a runtime and the harness never calls. */
#include <stdlib.h>

#define ABSENT(name) \
  void name(void); \
  void name(void) { abort(); }

ABSENT(napi_add_env_cleanup_hook)
ABSENT(napi_create_array)
ABSENT(napi_create_arraybuffer)
ABSENT(napi_create_error)
ABSENT(napi_create_function)
ABSENT(napi_create_promise)
ABSENT(napi_create_string_utf8)
ABSENT(napi_create_threadsafe_function)
ABSENT(napi_create_typedarray)
ABSENT(napi_create_uint32)
ABSENT(napi_get_cb_info)
ABSENT(napi_get_instance_data)
ABSENT(napi_get_typedarray_info)
ABSENT(napi_get_undefined)
ABSENT(napi_get_value_double)
ABSENT(napi_get_value_string_utf8)
ABSENT(napi_is_typedarray)
ABSENT(napi_reject_deferred)
ABSENT(napi_resolve_deferred)
ABSENT(napi_set_element)
ABSENT(napi_set_instance_data)
ABSENT(napi_set_named_property)
ABSENT(napi_throw)
ABSENT(napi_throw_type_error)
ABSENT(napi_typeof)
ABSENT(napi_unref_threadsafe_function)
